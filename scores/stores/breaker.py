"""A circuit breaker: while a store does not answer, one call a second probes it and all other calls fail at once."""

from __future__ import annotations

import threading
import time


class Breaker:
    """Closed: every call is admitted. Open: one call is, a second after the last failure, and its result decides.

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
        with self._lock:  # of several simultaneous calls, only one becomes the probe
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
