"""A child that runs a command of manage.py beside the server, and is started again when it ends."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from types import TracebackType

from django.conf import settings

from . import affinity

logger = logging.getLogger(__name__)

PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0  # before it is started again, and twice as long each time
HEALTHY_S = 30.0  # having run for so long, it is started again after the shortest pause
PATIENCE_S = 6.0  # with its end; it gives its last steps five


class Child:
    """A context in which the child runs. On leaving it, the child has ended.

    The child is in a session of its own: Ctrl-C is for the server, which ends the child after its last commit. If the
    server is killed, the child reads the end of its standard input, and ends too.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._starting = threading.Lock()  # or a child could be started just after the last one was told to end
        self._thread = threading.Thread(target=self._run, name=f"{command} process", daemon=True)

    def __enter__(self) -> Child:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._starting:
            self._ended.set()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(PATIENCE_S)
        if self._process is not None and self._thread.is_alive():
            self._process.kill()
            self._thread.join()

    def _run(self) -> None:
        affinity.roam()  # the child inherits the CPUs of this thread, and a worker may keep to one of them
        pause_s = PAUSE_S
        while True:
            started = time.monotonic()
            try:
                status = self._run_once()
            except OSError as error:  # no process or no memory is left
                logger.warning("manage.py %s cannot be started: %s", self._command, error.strerror)
                status = -1
            if time.monotonic() - started > HEALTHY_S:
                pause_s = PAUSE_S
            if self._ended.is_set():
                return
            logger.warning("manage.py %s ended with status %d; starts again in %.1f s", self._command, status, pause_s)
            self._ended.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _run_once(self) -> int:
        """The exit status, or minus the signal that ended it."""
        with self._starting:
            if self._ended.is_set():
                return 0
            self._process = subprocess.Popen(  # noqa: S603  this program
                [sys.executable, str(settings.BASE_DIR / "manage.py"), self._command, "--with-parent"],
                stdin=subprocess.PIPE,
                start_new_session=True,
                env={"PGAPPNAME": f"leaderboard {self._command}"}
                | os.environ,  # tells its connections apart in pg_stat_activity
            )
        with self._process:  # which closes our end of the pipe when it has ended
            return self._process.wait()
