"""Password hashing, the longest work of a CPU here: no more at once than there are CPUs, and a few that wait.

If all hashed at once, a crowd would share the CPUs, and each of them would get its answer when it is too late.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from scores.api import answer
from scores.exceptions import Overloaded

from . import affinity

PLACES_PER_SLOT = 2
FIRST_GUESS_S = 0.3  # for a hash, before one was measured


class Slots:
    """Lets `running` threads hash at once and `places` more wait; raises `Overloaded` in the others."""

    def __init__(self, running: int, places: int) -> None:
        self.running = running
        self.room = running + places
        self._slots = threading.Semaphore(running)
        self._places = threading.Semaphore(places)
        self._took_s = FIRST_GUESS_S  # a moving average

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A slot to hash in. Raises `Overloaded` if there is none in time for the answer to the current request."""
        self._take()
        began = time.monotonic()
        try:
            yield
        finally:
            self._took_s += (time.monotonic() - began - self._took_s) / 4
            self._slots.release()

    def _take(self) -> None:
        due = answer.current.get()
        if not self._slots.acquire(blocking=False):
            if not self._places.acquire(blocking=False):
                raise Overloaded
            try:
                if not self._wait(due):
                    raise Overloaded
            finally:
                self._places.release()
        if due is not None and due.refused:  # nobody waits for the answer any more
            self._slots.release()
            raise Overloaded

    def _wait(self, due: answer.Answer | None) -> bool:
        if due is None:  # a command
            return self._slots.acquire()
        return self._slots.acquire(timeout=max(0.0, due.left_s - self._took_s))


_per_process = max(1, (len(affinity.allowed) or os.cpu_count() or 1) // settings.WORKERS)
slots = Slots(_per_process, _per_process * PLACES_PER_SLOT)


class BoundedPBKDF2PasswordHasher(PBKDF2PasswordHasher):
    """Django's default. It hashes in a slot: to check a password, to set one, and for a name that does not exist."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with slots.slot():
            return super().encode(password, salt, iterations)
