"""Redis: one client for each patience, and a breaker in front of them. Everything that sends Redis a command does it through here."""

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

BULK = "bulk"  # the alias in CACHES whose timeouts are for work that nobody waits for

breaker = Breaker()


@cache
def client(alias: str = "default") -> Redis:
    # The raw client: django-redis's own sorted-set methods encode the members and prefix the key.
    return cast("Redis", get_redis_connection(alias))


@cache
def script(body: str) -> Script:
    return client().register_script(body)


Reply = TypeVar("Reply")


def guarded(command: Callable[[], Reply], *, probe: bool = False) -> Reply:
    """The answer of Redis, or `RedisAway` at once while it is known not to answer, unless this is to find out."""
    if not probe and not breaker.admits():
        raise RedisAway
    begun = time.perf_counter()
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
    metrics.redis_seconds.observe(time.perf_counter() - begun)
    breaker.succeeded()
    return reply
