"""What is counted and timed about scores, for /metrics. Per piece of work and not per request, wherever there are pieces.

Names are Prometheus's way: a unit in the name, `_total` for what only grows. With several processes each writes to a
file of its own (PROMETHEUS_MULTIPROC_DIR, which `server` sets before this is imported), and whoever answers adds them up.
"""

from __future__ import annotations

import time
from collections import Counter as Count
from collections import deque
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

increments = Counter(
    "leaderboard_increments",
    "Changes asked of the writer, by what became of them: recorded, replayed, or the code of the error.",
    ["result"],
)
commit_seconds = Histogram(
    "leaderboard_commit_seconds", "One transaction of the writer, from its beginning to its commit.", buckets=SECONDS
)
commit_changes = Histogram(
    "leaderboard_commit_changes",
    "Changes decided in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
reads = Counter("leaderboard_reads", "Questions about the board that were answered, by the store that did.", ["source"])
reads_shared = Counter(
    "leaderboard_reads_shared", "Questions that were answered by the answer to an equal one asked at the same moment."
)
reads_not_modified = Counter("leaderboard_reads_not_modified", "Pages that the client had already: answers with 304.")
tokens_verified = Counter(
    "leaderboard_tokens_verified",
    "Access tokens that this process did not remember and so verified, good ones and bad.",
)
limited = Counter("leaderboard_limited", "Requests and handshakes refused with 429, by limit.", ["limit"])
counted = Counter("leaderboard_limits_counted", "Hits that were counted against a limit, by where.", ["where"])

store_seconds = Histogram(
    "leaderboard_store_seconds",
    "How long a store took to answer: Redis each command, PostgreSQL the tail's look four times a second.",
    ["store"],
    buckets=SECONDS,
)
redis_away = Gauge(
    "leaderboard_redis_away", "1 while the breaker is open: Redis does not answer.", multiprocess_mode="livemax"
)
database_away = Gauge(
    "leaderboard_database_away", "1 while PostgreSQL does not answer the tail.", multiprocess_mode="livemax"
)
log_seq = Gauge("leaderboard_log_seq", "Number of the newest event of the log.", multiprocess_mode="livemax")
copy_seq = Gauge(
    "leaderboard_copy_seq", "Number of the event that the copy in Redis is at.", multiprocess_mode="livemax"
)
rebuilds = Counter("leaderboard_rebuilds", "Times the copy was built anew, by what was wrong with it.", ["reason"])
catch_ups = Counter(
    "leaderboard_catch_ups", "Times the tail brought a copy that had been left behind to the log's end."
)
sweep_compared = Counter("leaderboard_sweep_compared", "Members of the copy that were compared with their totals.")
sweep_repaired = Counter("leaderboard_sweep_repaired", "Members of the copy that were wrong and have been mended.")

# When which event was committed by this process, newest last; for whoever shows it. By `perf_counter`.
commits: deque[tuple[int, float]] = deque(maxlen=1024)

redis_seconds = store_seconds.labels("redis")
database_seconds = store_seconds.labels("database")


def committed(seq: int, changes: int, begun: float) -> None:
    """A transaction that `begun` then is durable now, and `seq` is its last event."""
    now = time.perf_counter()
    commit_seconds.observe(now - begun)
    commit_changes.observe(changes)
    commits.append((seq, now))


def add_each(counter: Counter, values: Iterable[str]) -> None:
    """Add to `counter` how often each of its label's values is there."""
    for value, times in Count(values).items():
        counter.labels(value).inc(times)
