"""Redis: one client per timeout, with a breaker in front of them. All Redis commands go through this module."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django_redis import get_redis_connection
from redis.exceptions import NoScriptError, RedisError

from scores import metrics
from scores.exceptions import RedisAway

from .breaker import Breaker

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

BULK = "bulk"  # the alias in CACHES with long timeouts, for work that no request waits for

breaker = Breaker()


@cache
def client(alias: str = "default") -> Redis:
    # The raw client: the sorted-set methods of django-redis encode the members and prefix the key.
    return cast("Redis", get_redis_connection(alias))


@cache
def sha_of(script: str) -> str:
    """The name under which Redis knows a script: EVALSHA."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def run_script(body: str, *, keys: Sequence[str], args: Sequence[str | int | bytes], alias: str = "default") -> Any:
    """The reply of the Lua script `body`. Raises what Redis raises.

    A Redis that is new, or was told to forget its scripts, gets the text. redis-py's own `Script` loads it and then asks by
    its name again, so a script that is forgotten between the two looks like a Redis that does not answer.
    """
    redis = client(alias)
    try:
        return redis.evalsha(sha_of(body), len(keys), *keys, *args)
    except NoScriptError:  # nothing was done
        return redis.eval(body, len(keys), *keys, *args)


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
