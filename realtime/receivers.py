"""The receivers of the signals of `scores`: they wake the hubs, and let the channel layer follow Redis."""

from __future__ import annotations

import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from redis.exceptions import RedisError

from scores.board import LEADERBOARD

from .hub import group_send, hub

logger = logging.getLogger(__name__)


def announce(sender: object, *, origin: str, seq: int, **kwargs: Any) -> None:
    """Wakes every hub: in a server through the hub's event loop, in a command, which has none, in a new one."""
    if hub.running:
        hub.announce(origin, seq)
        return
    try:
        async_to_sync(group_send)(LEADERBOARD, seq)
    except (RedisError, OSError) as error:
        logger.warning("Could not publish to the group; every hub reads the board within a second: %s", error)


def wake(sender: object, *, origin: str, last: int, **kwargs: Any) -> None:
    """Wakes the hub of this process after its own commit, also when nothing could be announced."""
    hub.committed(origin, last)


def follow(sender: object, **kwargs: Any) -> None:
    """Lets the channel layer leave the former primary of Redis."""
    layer: Any = get_channel_layer()
    layer.reconnect()
