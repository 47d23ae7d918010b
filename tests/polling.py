"""Waiting for what is expected, and never for a time that should do."""

from __future__ import annotations

import time
from collections.abc import Callable

# An end to waiting, and no measure: what takes long on a busy machine is not wrong.
DEADLINE_S = 30.0


def until(condition: Callable[[], object], timeout_s: float | None = None) -> None:
    """Wait for `condition`, or fail after `timeout_s` (DEADLINE_S)."""
    deadline = time.monotonic() + (DEADLINE_S if timeout_s is None else timeout_s)
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
