"""After a commit: moves the copy and then sends `leaderboard_changed`."""

from __future__ import annotations

import logging
from typing import Any

from scores import signals
from scores.exceptions import CopyUnusable, Damaged, Gap
from scores.log.head import Head

from .leaderboard import leaderboard
from .tail import tail

logger = logging.getLogger(__name__)


def move_leaderboard(
    sender: object,
    *,
    origin: str,
    first: int,
    last: int,
    members: int,
    totals: dict[str, int | None],
    mark_before: int,
    mark: int,
    **kwargs: Any,
) -> None:
    """Apply the commit to the copy; if Redis is away or the copy is damaged, leave it to the tail."""
    try:
        try:
            moved = leaderboard.apply(
                origin=origin, first=first, last=last, totals=totals, mark_before=mark_before, mark=mark
            )
        except Gap:  # another worker committed earlier events and has not applied them yet, or died before it could
            moved = leaderboard.catch_up(Head(origin, last, members, mark))
    except CopyUnusable as fault:
        leaderboard.must_reach(origin, last)
        if isinstance(fault, Damaged):
            tail.wake()
        return
    if moved:
        signals.leaderboard_changed.send_robust(sender=sender, origin=origin, seq=last)
