"""Who decides about an answer: the view that works on it, or the deadline that does not wait any longer.

A view runs in a thread that nothing can interrupt. When its request was answered 503, it must not go on as if nobody had
been told: whoever decides first, the view by its commit or the deadline by its 503, decides for both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import transaction

from scores.exceptions import DATABASE_AWAY, OutcomeUnknown, Overloaded


class Answer:
    """The answer to one request, which is due at `due_at` (seconds of `time.monotonic`): work that is `not_counted` moves that."""

    def __init__(self, due_at: float) -> None:
        self.due_at = due_at
        self._lock = threading.Lock()
        self._stands_since: float | None = None
        self._view_decided = False
        self._refused = False

    @property
    def refused(self) -> bool:
        return self._refused

    @property
    def left_s(self) -> float:
        with self._lock:
            return self.due_at - (self._stands_since or time.monotonic())

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """Work that the request cannot be answered without, and that takes what the CPU needs: the clock stands still.

        Or nobody could ever sign in where a hash takes longer than an answer may. Raises `Overloaded` if refused.
        """
        with self._lock:
            if self._refused:
                raise Overloaded
            since = self._stands_since = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.due_at += time.monotonic() - since
                self._stands_since = None

    def go_on(self) -> None:
        """For the view, right before its commit: from now on, the answer is its own. Raises `Overloaded` if refused."""
        with self._lock:
            if self._refused:
                raise Overloaded
            self._view_decided = True

    def refuse(self) -> bool:
        """For the deadline: whether nothing has happened, and nothing will."""
        with self._lock:
            self._refused = not self._view_decided
            return self._refused


# Of the request that this thread or task works on; `None` outside of requests that have a deadline.
current: ContextVar[Answer | None] = ContextVar("answer", default=None)


@contextmanager
def committed_in_time() -> Iterator[None]:
    """A transaction that is rolled back, with `Overloaded`, if the request was answered 503 before its commit.

    Raises `OutcomeUnknown` if the connection ends while it commits.
    """
    commits = False
    try:
        with transaction.atomic():
            yield
            answer = current.get()
            if answer is not None:
                answer.go_on()
            commits = True
    except DATABASE_AWAY as error:
        if commits:
            raise OutcomeUnknown from error
        raise
