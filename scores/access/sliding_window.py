"""Counting of hits in a sliding window: in Redis for all processes together, or in this process alone.

Each limit of each subject has two counters: the one of the previous window fades out while the one of the current
window fills. A hit is within the limit if floor(previous * left / length) + current is below it, where `left` is what
remains of the current window. A window begins with its first hit. The script in Redis checks and counts in one step, so
simultaneous hits cannot exceed the limit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from limits import RateLimitItem
from redis.exceptions import NoScriptError

from scores.stores.redis import client, sha_of

PREFIX = "leaderboard:limits"
FORGET_EVERY_S = 60

# KEYS: the counters of the previous and of the current window. ARGV: the limit, and the length of a window in ms. The
# TTL of the keys tells the time: the current counter lives for two lengths, and in the second one it is the previous
# one.
COUNT = """
local limit, length = tonumber(ARGV[1]), tonumber(ARGV[2])
local function counter(key)
    local ttl = redis.call('PTTL', key)
    if ttl <= 0 or ttl > 2 * length then return 0, 0 end  -- no counter, or one that another program wrote
    local text = redis.pcall('GET', key)
    if type(text) ~= 'string' or #text > 15 or not string.find(text, '^%d+$') then
        redis.call('DEL', key)
        return 0, 0
    end
    return tonumber(text), ttl
end
local current, current_ttl = counter(KEYS[2])
if current_ttl > 0 and current_ttl < length then
    redis.call('RENAME', KEYS[2], KEYS[1])
    current, current_ttl = 0, current_ttl + length
    redis.call('SET', KEYS[2], 0, 'PX', current_ttl)
end
local previous, previous_ttl = counter(KEYS[1])
local admitted = math.floor(previous * previous_ttl / length) + current < limit
if admitted then
    current = current + 1
    if current_ttl > 0 then
        redis.call('INCR', KEYS[2])
    else
        current_ttl = 2 * length
        redis.call('SET', KEYS[2], 1, 'PX', current_ttl)
    end
end
return {admitted and 1 or 0, previous, previous_ttl, current, current_ttl}
"""
SHA = sha_of(COUNT)


class Hit(NamedTuple):
    """A request that counts against the limit `name`. `subject` is a user id, two of them, or a rate-limit key."""

    name: str
    subject: str
    rate: RateLimitItem

    @property
    def key(self) -> str:
        return self.rate.key_for(self.name, bounded(self.subject))


def bounded(subject: str) -> str:
    """`subject`, or its hash if it is long, so that no key grows with what a client sends.

    A hash has 64 characters, and whatever is kept as it is has fewer: they cannot be the same.
    """
    return subject if len(subject) < 64 else sha256(subject.encode()).hexdigest()


class Window(NamedTuple):
    """The two counters at one moment, with the seconds until they expire."""

    previous: int
    previous_ttl_s: float
    current: int
    current_ttl_s: float  # up to twice the length: in the second half it is the previous one


class Counted(NamedTuple):
    admitted: bool
    window: Window  # includes this hit, if it was admitted


def redis_keys(hit: Hit) -> tuple[str, str]:
    """The keys of the previous and the current counter, named as by the library `limits`, whose script counted before.

    The braces give both the same hash tag, so that they are in one slot of a cluster.
    """
    current = f"{PREFIX}:{{{hit.key}}}"
    return f"{current}/-1", current


def count_in_redis(hits: Sequence[Hit]) -> list[Counted]:
    """Count all `hits` in one round trip. Raises `RedisError` or `OSError`; some hits may have been counted then."""
    replies = _send(hits)
    # A new Redis does not have the script. Another process may have loaded it while this one sent its hits, so only
    # some are missing, and the others must not be counted again. EVAL works without a loaded script, and loads it.
    missing = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missing:
        for n, reply in zip(missing, _send([hits[n] for n in missing], loaded=False), strict=True):
            replies[n] = reply
    return [_counted(reply) for reply in replies]


def _send(hits: Sequence[Hit], *, loaded: bool = True) -> list[Any]:
    # One script call per hit, since a script may only touch one slot of a cluster. The connections of this client do
    # not repeat a command whose reply was lost, because a hit that is sent twice counts twice.
    pipeline = client().pipeline(transaction=False)
    run, script = (pipeline.evalsha, SHA) if loaded else (pipeline.eval, COUNT)
    for hit in hits:
        run(script, 2, *redis_keys(hit), hit.rate.amount, hit.rate.get_expiry() * 1000)
    return pipeline.execute(raise_on_error=False)


def _counted(reply: Any) -> Counted:
    if isinstance(reply, Exception):
        raise reply
    admitted, previous, previous_ttl_ms, current, current_ttl_ms = reply
    return Counted(admitted == 1, Window(previous, previous_ttl_ms / 1000, current, current_ttl_ms / 1000))


class _Counters(NamedTuple):
    previous: int
    current: int
    ends_at: float  # of the current window, by the monotonic clock
    length_s: int


class ProcessCounters:
    """The same counting within this process. Not thread-safe."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counters] = {}
        self._forgot_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._counters)

    def count(self, hits: Sequence[Hit]) -> list[Counted]:
        now = time.monotonic()
        return [self._count(hit, now) for hit in hits]

    def _count(self, hit: Hit, now: float) -> Counted:
        length_s = hit.rate.get_expiry()
        previous, current, ends_at, _ = self._counters.get(hit.key, (0, 0, now + length_s, length_s))
        if now >= ends_at + length_s:
            previous, current, ends_at = 0, 0, now + length_s
        elif now >= ends_at:
            previous, current, ends_at = current, 0, ends_at + length_s
        left_s = ends_at - now
        admitted = math.floor(previous * left_s / length_s) + current < hit.rate.amount
        current += admitted
        self._counters[hit.key] = _Counters(previous, current, ends_at, length_s)
        return Counted(admitted, Window(previous, left_s if previous else 0.0, current, left_s + length_s))

    def forget_ended(self, *, every_s: float = FORGET_EVERY_S) -> None:
        """Drop the expired counters, if the last call that did so was at least `every_s` seconds ago."""
        now = time.monotonic()
        if now - self._forgot_at < every_s:
            return
        self._forgot_at = now
        self._counters = {key: c for key, c in self._counters.items() if now < c.ends_at + c.length_s}
