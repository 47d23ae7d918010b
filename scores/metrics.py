"""The metrics about scores, for /metrics. Work that is done in batches is counted per batch and not per request.

Names follow Prometheus: a unit in the name, `_total` for counters. Each of several processes writes its own file
(PROMETHEUS_MULTIPROC_DIR, which `server` sets before this import), and the process that answers /metrics adds them up.
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
    "Increments requested from the writer, by result: recorded, replayed, or the code of the error.",
    ["result"],
)
commit_seconds = Histogram(
    "leaderboard_commit_seconds", "Duration of one transaction of the writer, including its commit.", buckets=SECONDS
)
commit_changes = Histogram(
    "leaderboard_commit_changes",
    "Changes in one transaction of the writer.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
reads = Counter("leaderboard_reads", "Answered questions about the board, by the store that answered.", ["source"])
reads_shared = Counter(
    "leaderboard_reads_shared", "Questions that shared the answer to an equal question at the same time."
)
reads_not_modified = Counter("leaderboard_reads_not_modified", "Pages that the client already had, answered with 304.")
tokens_verified = Counter(
    "leaderboard_tokens_verified",
    "Access tokens, valid or not, that this process verified because they were not in its cache.",
)
limited = Counter("leaderboard_limited", "Requests and handshakes refused with 429, by limit.", ["limit"])
counted = Counter("leaderboard_limits_counted", "Hits counted against a limit, by where they were counted.", ["where"])

store_seconds = Histogram(
    "leaderboard_store_seconds",
    "Response time of a store: every Redis command, and the tail's query to PostgreSQL four times a second.",
    ["store"],
    buckets=SECONDS,
)
redis_away = Gauge(
    "leaderboard_redis_away", "1 while the breaker is open because Redis does not answer.", multiprocess_mode="livemax"
)
database_away = Gauge(
    "leaderboard_database_away", "1 while PostgreSQL does not answer the tail.", multiprocess_mode="livemax"
)
database_clock_ahead = Gauge(
    "leaderboard_database_clock_ahead",
    "1 while PostgreSQL's clock is more than a minute ahead of a process's.",
    multiprocess_mode="livemax",
)
log_seq = Gauge("leaderboard_log_seq", "Number of the newest event of the log.", multiprocess_mode="livemax")
copy_seq = Gauge(
    "leaderboard_copy_seq", "Number of the newest event that the copy in Redis contains.", multiprocess_mode="livemax"
)
board_seq = Gauge(
    "leaderboard_board_seq",
    "Number of the newest event that a board contains, by store. Not there: the store does not have the board.",
    ["board", "store"],
    multiprocess_mode="livemostrecent",
)
board_lag = Gauge(
    "leaderboard_board_lag",
    "Events that a board is behind the log, by store.",
    ["board", "store"],
    multiprocess_mode="livemostrecent",
)
board_folds = Counter(
    "leaderboard_board_folds", "Slices of the log folded into a board, each board for itself, by store.", ["store"]
)
board_rebuilds = Counter(
    "leaderboard_board_rebuilds", "Boards brought to Redis from their standings, by reason.", ["reason"]
)
rebuilds = Counter("leaderboard_rebuilds", "Rebuilds of the copy, by reason.", ["reason"])
catch_ups = Counter("leaderboard_catch_ups", "Times the tail applied events that the copy had missed.")
sweep_compared = Counter("leaderboard_sweep_compared", "Members of the copy that the scrub compared with their totals.")
sweep_repaired = Counter("leaderboard_sweep_repaired", "Members of the copy whose scores were wrong and were repaired.")
follower_held = Gauge(
    "leaderboard_follower_held", "1 in the process that holds the lease.", ["follower"], multiprocess_mode="livemax"
)
follower_takeovers = Counter(
    "leaderboard_follower_takeovers", "Times a process began to follow the log because it got the lease.", ["follower"]
)
broker_away = Gauge(
    "leaderboard_broker_away",
    "1 while the broker does not answer a process that needs it.",
    multiprocess_mode="livemax",
)
ingested_messages = Counter("leaderboard_ingested_messages", "Messages acknowledged, by `ingest`.")
dead_letters = Counter("leaderboard_dead_letters", "Entries sent to the dead letters, by code.", ["code"])
published_seq = Gauge(
    "leaderboard_published_seq",
    "Number of the newest event that the broker has confirmed. Not there: this server publishes nothing.",
    multiprocess_mode="livemostrecent",
)
publish_lag = Gauge(
    "leaderboard_publish_lag",
    "Events of the log that the broker has not confirmed.",
    multiprocess_mode="livemostrecent",
)

# The newest commits of this process, newest last: (seq of the last event, `perf_counter` at the commit).
commits: deque[tuple[int, float]] = deque(maxlen=1024)

redis_seconds = store_seconds.labels("redis")
database_seconds = store_seconds.labels("database")


def committed(seq: int, changes: int, started: float) -> None:
    """Count a transaction that has just committed; `seq` is its last event, `started` its `perf_counter` time."""
    now = time.perf_counter()
    commit_seconds.observe(now - started)
    commit_changes.observe(changes)
    commits.append((seq, now))


def add_each(counter: Counter, values: Iterable[str]) -> None:
    """Increment `counter` once for each of `values` of its label."""
    for value, times in Count(values).items():
        counter.labels(value).inc(times)
