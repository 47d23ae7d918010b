"""`manage.py ingest`: a process that drains the queue of a broker into the log. There may be any number of them."""

from __future__ import annotations

import logging
import os
import threading

from django.conf import settings
from django.core.management.base import CommandError

from leaderboard_site.server.management.process import ProcessCommand
from scores.log.writer import writer
from scores.streams.broker import BrokerFailed, sink, source
from scores.streams.ingest import Ingest
from scores.streams.messages import dead_queue

logger = logging.getLogger(__name__)


class Command(ProcessCommand):
    help = "Drains INGEST_QUEUE of BROKER_URL into the log, until SIGTERM or SIGINT."

    def work(self, ended: threading.Event) -> None:
        if settings.BROKER is None:
            raise CommandError("There is no broker: set BROKER_URL, as in amqp://user:password@host:5672/")
        batch: int = settings.INGEST_BATCH
        name: str = settings.INGEST_QUEUE
        try:
            came, dead = source(name), sink(dead_queue(name))
        except BrokerFailed as error:
            raise CommandError(f"BROKER_URL: {error}") from error
        logger.info("Process %d drains %s", os.getpid(), name)
        Ingest(came, dead, writer.record, ended, name=name, batch=batch).run()
