"""The channel layer: that of channels-redis, whose connections can be given up."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


class ChannelLayer(RedisPubSubChannelLayer):  # type: ignore[misc]  # published without types
    """A former primary of Redis keeps its connections, and nobody publishes there any more."""

    def reconnect(self) -> None:
        """Makes all connections anew: they subscribe again to what they were subscribed to. Safe in any thread."""
        for loop, layer in list(self._layers.items()):
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(_disconnect(layer), loop)


async def _disconnect(layer: Any) -> None:
    for shard in layer._shards:
        if shard._redis is not None:
            try:
                await shard._redis.connection_pool.disconnect()
            except (RedisError, OSError) as error:
                logger.debug("A connection of the channel layer did not end well: %s", error)
