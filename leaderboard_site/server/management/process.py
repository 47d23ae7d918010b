"""What commands have in common that are processes of their own: they run until SIGTERM or SIGINT, or with their parent."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from leaderboard_site.operations.pending_migrations import has_none_pending
from leaderboard_site.server.garbage import calm_collection

logger = logging.getLogger(__name__)

ASK_EVERY_S = 1.0
WAITS_FOR = {None: "PostgreSQL, which does not answer", False: "the migrations that the database lacks"}


class ProcessCommand(BaseCommand):
    """Calls `work` once the database has all migrations."""

    requires_system_checks = []  # the server's start has none either, and they would need the database

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--with-parent", action="store_true", help="end when standard input ends, which a parent holds open"
        )

    def handle(self, *args: Any, with_parent: bool, **options: Any) -> None:
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        if with_parent:
            threading.Thread(target=await_end_of_input, args=[ended], daemon=True).start()
        await_database(ended)
        if not ended.is_set():
            calm_collection()
            self.work(ended)
        logger.info("Process %d has ended cleanly", os.getpid())

    def work(self, ended: threading.Event) -> None:
        """Return soon after `ended` is set."""
        raise NotImplementedError


def await_end_of_input(ended: threading.Event) -> None:
    """However the parent ends, the kernel closes its end of the pipe. Linux could send a signal, macOS could not."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    ended.set()


def await_database(ended: threading.Event) -> None:
    """Returns when the database has all migrations: on several hosts, processes start before they are applied."""
    told: bool | None = True
    while (applied := has_none_pending()) is not True:
        if applied is not told:
            logger.warning("Waits for %s", WAITS_FOR[applied])
            told = applied
        if ended.wait(ASK_EVERY_S):
            return
