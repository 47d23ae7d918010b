"""The server processes: each publishes its status once a second, so that one of them can show all of them to an admin.

A status is believed for five seconds. It is for people only: no decision depends on it.
While Redis is away, a process knows only its own status.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from typing import NamedTuple

from realtime.socket_limits import socket_limits
from scores.exceptions import RedisAway
from scores.projection.tail import tail
from scores.stores import presence
from scores.stores.redis import breaker, say_what_is_denied

logger = logging.getLogger(__name__)

PUBLISH_EVERY_S = 1.0
BELIEVED_S = 5  # a process that published nothing for so long has ended


class Process(NamedTuple):
    """The status of a server process, at most a second old. Counts are since its start."""

    host: str
    pid: int
    started_at: float  # POSIX seconds
    sockets: int
    redis_away: bool  # its breaker is open: it reads from the database and probes Redis
    database_age_s: float  # since the database last answered it
    compared: int  # members that its scrub compared
    repaired: int  # members that its scrub repaired
    rounds: int  # times its scrub went through the whole board

    @property
    def name(self) -> str:
        return f"{self.host}:{self.pid}"


TYPES = [str, int, float, int, bool, float, int, int, int]  # of the fields above
LAST_S = 4e9  # the year 2096: what is later is no time that a process has started at


class ProcessReporter:
    """A thread that publishes the status of its process every `PUBLISH_EVERY_S`."""

    def __init__(self) -> None:
        self._started_at = time.time()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._ended.clear()
            self._started_at = time.time()
            self._thread = threading.Thread(target=self._run, name="process reporter", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        if self._thread is not None:
            self._ended.set()
            self._thread.join(timeout_s)
            self._thread = None

    def here(self) -> Process:
        """The status of this process, now."""
        scrub = tail.scrub
        return Process(
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            sockets=socket_limits.taken,
            redis_away=breaker.is_open,
            database_age_s=tail.silence_s,
            compared=scrub.compared,
            repaired=scrub.repaired,
            rounds=scrub.rounds,
        )

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                process = self.here()
                presence.tell(process.name, json.dumps(process), for_s=BELIEVED_S)
                say_what_is_denied()
            except RedisAway:
                pass  # the breaker has logged it
            except Exception:
                logger.exception("The process reporter failed and continues")
            self._ended.wait(PUBLISH_EVERY_S)


def understood(words: str) -> Process | None:
    """What a process published; `None` if it is of a version with other fields, or another program wrote it."""
    try:
        status = json.loads(words)
    except ValueError:
        return None
    if not isinstance(status, list) or [type(value) for value in status] != TYPES:
        return None
    process = Process(*status)
    return process if 0 < process.started_at < LAST_S else None


def open_sockets() -> int | None:
    """How many sockets all processes have open; `None` if no process says so, or Redis cannot be asked."""
    try:
        told = presence.told()
    except RedisAway:
        return None
    counts = [process.sockets for words in told if (process := understood(words)) is not None]
    return sum(counts) if counts else None


def everyone() -> tuple[list[Process], bool]:
    """Returns all known processes, this one as it is now, and whether Redis could be asked for the others."""
    mine = reporter.here()
    try:
        told, asked = presence.told(), True
    except RedisAway:
        told, asked = [], False
    processes = {process.name: process for words in told if (process := understood(words)) is not None}
    return sorted((processes | {mine.name: mine}).values()), asked


reporter = ProcessReporter()
