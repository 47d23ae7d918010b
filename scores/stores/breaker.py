"""A circuit breaker: a store that does not answer is asked once a second instead of by everyone."""

from __future__ import annotations

import threading
import time


class Breaker:
    """Closed: everybody may ask. Open: one caller may, a second after the last failure, and the answer to that decides.

    M. Nygard, Release It!, "Circuit Breaker".
    """

    def __init__(self, *, probe_every_s: float = 1.0) -> None:
        self._probe_every_s = probe_every_s
        self._probe_at: float | None = None  # monotonic seconds; None while closed
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        return self._probe_at is not None

    def admits(self) -> bool:
        with self._lock:  # of those who come at the same moment only one is the probe
            if self._probe_at is None:
                return True
            if time.monotonic() < self._probe_at:
                return False
            self._probe_at = time.monotonic() + self._probe_every_s
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._probe_at = None

    def failed(self) -> None:
        with self._lock:
            self._probe_at = time.monotonic() + self._probe_every_s
