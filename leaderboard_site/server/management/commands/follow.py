"""`manage.py follow`: the process that runs the followers of the log, beside the server processes or elsewhere."""

from __future__ import annotations

import logging
import os
import threading

from leaderboard_site.operations import processes
from leaderboard_site.server.management.process import ProcessCommand
from scores.engagement.sockets import sampler
from scores.followers import runners

logger = logging.getLogger(__name__)


class Command(ProcessCommand):
    help = "Runs everything that follows the log, until SIGTERM or SIGINT. A second process stands by."

    def work(self, ended: threading.Event) -> None:
        sampler.watch(processes.open_sockets)
        runners.start(is_dedicated=True)
        logger.info("Process %d follows the log", os.getpid())
        ended.wait()
        runners.stop()
