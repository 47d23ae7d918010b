"""The server processes: each tells once a second how it is, so that one of them can show all of them to an admin.

What they tell is in Redis for five seconds, through Django's cache. It is for people: nothing is decided by it, and while
Redis is away each process knows of itself only.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import Any, NamedTuple

from django.core.cache import cache
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError

from realtime.hub import hub
from scores.projection.tail import tail
from scores.stores.redis import breaker

logger = logging.getLogger(__name__)

TELL_EVERY_S = 1.0
BELIEVED_S = 5  # a process that told nothing for so long has ended
KEYS = "process:*"


class Process(NamedTuple):
    """How a server process was a moment ago. What it counted, it counted since it started."""

    host: str
    pid: int
    started_at: float  # POSIX seconds
    sockets: int
    redis_away: bool  # its breaker is open: it reads from the database, and probes Redis
    database_age_s: float  # since the database last answered it
    compared: int  # members, by its scrub
    repaired: int
    rounds: int  # of the scrub around the whole board

    @property
    def name(self) -> str:
        return f"{self.host}:{self.pid}"


class ProcessReporter:
    """One thread per process that tells how the process is."""

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
        """This process, now."""
        scrub = tail.scrub
        return Process(
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            sockets=hub.sockets,
            redis_away=breaker.is_open,
            database_age_s=tail.age_s,
            compared=scrub.compared,
            repaired=scrub.repaired,
            rounds=scrub.rounds,
        )

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                if not breaker.is_open:  # which has said so already
                    process = self.here()
                    cache.set(f"process:{process.name}", process, timeout=BELIEVED_S)
            except (RedisError, ConnectionInterrupted, OSError) as error:
                logger.debug("Could not tell how this process is: %s", error)
            except Exception:
                logger.exception("The process reporter failed and goes on")
            self._ended.wait(TELL_EVERY_S)


def everyone() -> tuple[list[Process], bool]:
    """The processes that told how they are, this one as it is now, and whether the others could be asked."""
    mine = reporter.here()
    others: dict[str, Any] = {}
    asked = not breaker.is_open
    if asked:
        try:
            # A walk over the keys: there are a handful, since the whole board is one of them.
            others = cache.get_many(list(cache.iter_keys(KEYS)))  # type: ignore[attr-defined]  # django-redis's own
        except (RedisError, ConnectionInterrupted, OSError):
            asked = False
    # Of another version, during an update, one may tell other things.
    understood = (Process(*told) for told in others.values() if len(told) == len(Process._fields))
    processes = {process.name: process for process in understood}
    return sorted((processes | {mine.name: mine}).values()), asked


reporter = ProcessReporter()
