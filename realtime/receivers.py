"""What follows a change of the board: the group hears of it."""

from __future__ import annotations

import logging
from typing import Any

from asgiref.sync import async_to_sync
from redis.exceptions import RedisError

from scores.board import LEADERBOARD

from .hub import group_send, hub

logger = logging.getLogger(__name__)


def announce(sender: object, *, origin: str, seq: int, **kwargs: Any) -> None:
    """Wake every hub. From the threads of a server by its event loop; in a command there is none, so one is made."""
    if hub.running:
        hub.announce(seq)
        return
    try:
        async_to_sync(group_send)(LEADERBOARD, seq)
    except (RedisError, OSError) as error:
        logger.warning("The group could not be told; every hub looks by itself within a second: %s", error)
