"""Garbage collection, which in a process of this size is a pause of its own."""

from __future__ import annotations

import gc


def calm_collection() -> None:
    """Excludes imported objects, which live as long as the process, and collects later objects less often.

    With Python's default thresholds, a full collection of Django's 300,000 objects stops a process for 50 to 100 ms: all
    requests of a server; and beside it, on a machine with few cores, those that wait for the CPU that the follower takes.
    Many collections happen while thousands of sockets open, because each socket keeps a few hundred objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
