"""Limits on how often: counted in Redis by the scripts of `limits`, for all processes together, and here while it is away.

A sliding window of two counters: the one before fades out while the present one fills. Of one window's limit no more is
let through, whoever comes at the same moment, because one script looks and counts. The only other file with Redis
commands is `leaderboard`, whose breaker decides here too: a silent Redis costs one caller its timeout, not everyone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from limits import RateLimitItem
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import NoScriptError

from scores import metrics
from scores.exceptions import RedisAway
from scores.stores.batcher import Batcher
from scores.stores.redis import client, guarded

logger = logging.getLogger(__name__)

PREFIX = "leaderboard:limits"


class Hit(NamedTuple):
    """Somebody does something of which there is a limit. `who` is a user id or an address, after the limit's name."""

    name: str
    who: str
    rate: RateLimitItem


class Window(NamedTuple):
    """The two counters as they are now. Times are seconds until they are forgotten."""

    previous: int
    previous_ttl_s: float
    current: int
    current_ttl_s: float  # up to twice the length: for the second half it is the previous one


class Verdict(NamedTuple):
    admitted: bool
    remaining: int  # hits that would be admitted right now
    wait_s: int  # until one more would be; of an admitted hit: until the window is another


class CountedInRedis(RedisStorage):
    """The library's storage, with one round trip for any number of hits instead of two for each."""

    def hit(self, hits: Sequence[Hit]) -> list[tuple[bool, Window]]:
        try:
            return self._hit(hits)
        except NoScriptError:  # a new Redis; nothing was counted
            for script in (self.lua_acquire_sliding_window, self.lua_sliding_window):
                self.storage.script_load(script.script)
            return self._hit(hits)

    def _hit(self, hits: Sequence[Hit]) -> list[tuple[bool, Window]]:
        acquire, look = self.lua_acquire_sliding_window.sha, self.lua_sliding_window.sha
        pipeline = self.storage.pipeline(transaction=False)
        for hit in hits:
            key = hit.rate.key_for(hit.name, hit.who)
            previous = self.prefixed_key(self._previous_window_key(key))
            current = self.prefixed_key(self._current_window_key(key))
            length_s = hit.rate.get_expiry()
            pipeline.evalsha(acquire, 2, previous, current, hit.rate.amount, length_s, 1)
            pipeline.evalsha(look, 2, previous, current, length_s)
        replies: list[Any] = pipeline.execute()
        return [(bool(a), _window(w)) for a, w in zip(replies[::2], replies[1::2], strict=True)]


def _window(reply: list[Any]) -> Window:
    previous, previous_ttl_ms, current, current_ttl_ms = reply
    return Window(int(previous or 0), max(0, previous_ttl_ms) / 1000, int(current or 0), max(0, current_ttl_ms) / 1000)


@cache
def _counted_in_redis() -> CountedInRedis:
    # The client's own pool, with its timeouts and without its retries: a hit that is sent twice counts twice.
    return CountedInRedis("redis://", connection_pool=client().connection_pool, key_prefix=PREFIX)


class CountedHere:
    """The limits of this process alone, while Redis is away: never unlimited, at most `WORKERS` times the limit."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    def hit(self, hits: Sequence[Hit]) -> list[tuple[bool, Window]]:
        return [
            (
                self._limiter.hit(hit.rate, hit.name, hit.who),
                Window(*self._storage.get_sliding_window(hit.rate.key_for(hit.name, hit.who), hit.rate.get_expiry())),
            )
            for hit in hits
        ]


_here: CountedHere | None = None  # made when it is needed: it has a thread of its own


def judge(hits: Sequence[Hit]) -> list[Verdict]:
    """Count all `hits`, in one round trip, and say which are within their limits. Raises nothing on account of Redis."""
    global _here
    try:
        counted = guarded(lambda: _counted_in_redis().hit(hits))
        metrics.counted.labels("redis").inc(len(hits))
    except RedisAway:
        _here = _here or CountedHere()
        counted = _here.hit(hits)
        metrics.counted.labels("process").inc(len(hits))
    metrics.add_each(
        metrics.limited, [hit.name for hit, (admitted, _) in zip(hits, counted, strict=True) if not admitted]
    )
    return [verdict(hit.rate, admitted, window) for hit, (admitted, window) in zip(hits, counted, strict=True)]


def verdict(rate: RateLimitItem, admitted: bool, window: Window) -> Verdict:
    length_s = rate.get_expiry()
    faded = math.floor(window.previous * window.previous_ttl_s / length_s)
    remaining = max(0, rate.amount - faded - window.current)
    if not admitted:
        return Verdict(False, 0, wait_s(rate, window))
    return Verdict(True, remaining, max(1, math.ceil(window.current_ttl_s - length_s)))


def wait_s(rate: RateLimitItem, window: Window) -> int:
    """Whole seconds after which one more hit is within the limit, if nobody else comes."""
    length_s = rate.get_expiry()
    room = rate.amount - window.current  # for what is left of the previous window, and the hit
    if room >= 1 and window.previous:
        # Until floor(previous * left / length) < room, which is previous * left / length < room.
        seconds = window.previous_ttl_s - room * length_s / window.previous
    else:
        # The present window must become the previous one; from then on it fades.
        seconds = window.current_ttl_s - length_s
    return max(1, math.floor(seconds) + 1)


batcher: Batcher[Hit, Verdict] = Batcher("limiter", judge, max_batch=256, max_queued=20_000, timeout_s=1.0)
