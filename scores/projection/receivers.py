"""What follows a commit: the copy moves, and then the world is told that it did."""

from __future__ import annotations

import logging
from typing import Any

from scores import signals
from scores.exceptions import Damaged, Gap, RedisAway
from scores.log.head import Head

from .leaderboard import leaderboard
from .tail import tail

logger = logging.getLogger(__name__)


def move_leaderboard(
    sender: object, *, origin: str, first: int, last: int, members: int, totals: dict[str, int | None], **kwargs: Any
) -> None:
    """Bring the copy up to the commit; what cannot be done here in a moment is left to the tail."""
    try:
        try:
            moved = leaderboard.apply(origin=origin, first=first, last=last, totals=totals)
        except Gap:  # another worker committed before us and is on its way to Redis, or died there
            moved = leaderboard.catch_up(Head(origin, last, members))
    except RedisAway:
        return
    except Damaged:
        tail.wake()
        return
    if moved:
        signals.leaderboard_changed.send_robust(sender=sender, origin=origin, seq=last)
