"""Redis: one client per timeout, with a breaker in front of them. All Redis commands go through this module."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

from django_redis import get_redis_connection
from redis.exceptions import RedisError

from scores import metrics
from scores.exceptions import RedisAway

from .breaker import Breaker

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script

logger = logging.getLogger(__name__)

BULK = "bulk"  # the alias in CACHES with long timeouts, for work that no request waits for

breaker = Breaker()


@cache
def client(alias: str = "default") -> Redis:
    # The raw client: the sorted-set methods of django-redis encode the members and prefix the key.
    return cast("Redis", get_redis_connection(alias))


@cache
def script(body: str) -> Script:
    return client().register_script(body)


Reply = TypeVar("Reply")


def guarded(command: Callable[[], Reply], *, probe: bool = False) -> Reply:
    """The reply of Redis. Raises `RedisAway`, at once while the breaker is open; a `probe` is sent even then."""
    if not probe and not breaker.admits():
        raise RedisAway
    started = time.perf_counter()
    try:
        reply = command()
    except (RedisError, OSError) as error:
        metrics.redis_away.set(1)
        if not breaker.is_open:
            logger.warning("Redis does not answer: %s", error)
        breaker.failed()
        raise RedisAway from error
    if breaker.is_open:
        logger.info("Redis answers again")
        metrics.redis_away.set(0)
    metrics.redis_seconds.observe(time.perf_counter() - started)
    breaker.succeeded()
    return reply
