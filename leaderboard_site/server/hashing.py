"""Password hashing, the longest work of a CPU here: no more at once than there are CPUs, and a few that wait.

If all hashed at once, a crowd would share the CPUs, and each of them would get its answer when it is too late.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from scores.api import answer
from scores.exceptions import Overloaded

from . import affinity

PLACES_PER_SLOT = 2


class Slots:
    """Lets `running` threads hash at once and `places` more wait; raises `Overloaded` in the others."""

    def __init__(self, running: int, places: int) -> None:
        self.running = running
        self.room = running + places
        self._slots = threading.Semaphore(running)
        self._places = threading.Semaphore(places)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A slot to hash in, for as long as that takes: it does not count in the time to the answer to the current request.

        Raises `Overloaded` if there is none before that time is over.
        """
        due = answer.current.get()
        self._take(due)
        try:
            with due.not_counted() if due is not None else nullcontext():
                yield
        finally:
            self._slots.release()

    def _take(self, due: answer.Answer | None) -> None:
        if self._slots.acquire(blocking=False):
            return
        if not self._places.acquire(blocking=False):
            raise Overloaded
        try:
            if not self._slots.acquire(timeout=None if due is None else max(0.0, due.left_s)):  # None is a command's
                raise Overloaded
        finally:
            self._places.release()


_per_process = max(1, (len(affinity.allowed) or os.cpu_count() or 1) // settings.WORKERS)
slots = Slots(_per_process, _per_process * PLACES_PER_SLOT)


class BoundedPBKDF2PasswordHasher(PBKDF2PasswordHasher):
    """Django's default. It hashes in a slot: to check a password, to set one, and for a name that does not exist."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with slots.slot():
            return super().encode(password, salt, iterations)
