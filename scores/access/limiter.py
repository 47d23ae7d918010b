"""Verdicts on hits: whether they are within the limit, what is left of it, and how long to wait.

Hits are counted in Redis, for all processes together; while Redis is away, each process counts its own: never
unlimited, at most `WORKERS` times the limit. The breaker in front of Redis decides, so a silent Redis costs one caller
a timeout and not all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from limits import RateLimitItem

from scores import metrics
from scores.exceptions import RedisAway
from scores.stores.batcher import Batcher
from scores.stores.redis import guarded

from .sliding_window import Hit, ProcessCounters, Window, count_in_redis


class Verdict(NamedTuple):
    admitted: bool
    remaining: int  # hits that would be admitted now
    wait_s: int  # of a refused hit: until one more is admitted; of an admitted hit: until the window ends


_process_counters = ProcessCounters()


def judge(hits: Sequence[Hit]) -> list[Verdict]:
    """Count all `hits` in one round trip, and judge each. Raises no errors of Redis."""
    try:
        counted = guarded(lambda: count_in_redis(hits))
        metrics.counted.labels("redis").inc(len(hits))
    except RedisAway:
        counted = _process_counters.count(hits)
        metrics.counted.labels("process").inc(len(hits))
    _process_counters.forget_ended()  # also when Redis is back, or the counters of an outage would stay for ever
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
    """Whole seconds after which one more hit is within the limit, if there are no other hits."""
    length_s = rate.get_expiry()
    free = rate.amount - window.current  # for what remains of the previous window, and the hit
    if free >= 1 and window.previous:
        # Until floor(previous * left / length) < free, which is previous * left / length < free.
        seconds = window.previous_ttl_s - free * length_s / window.previous
    else:
        # The current window must become the previous one; from then on it fades.
        seconds = window.current_ttl_s - length_s
    return max(1, math.floor(seconds) + 1)


batcher: Batcher[Hit, Verdict] = Batcher("limiter", judge, max_batch=256, max_queued=20_000, timeout_s=1.0)
