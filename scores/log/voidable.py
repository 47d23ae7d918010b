"""Which events can still be taken back: those of a user or of an actor since some moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from .head import Log
from .ledger import VOIDABLE_KINDS

MAX_SCANNED = 100_000  # events looked at in one statement: tens of milliseconds
# The first event that was written at this moment or later; one more than the head's without any. By bisection, each step
# a look-up by the primary key: there is no index on the time, which never goes back from one event to the next. It did
# in events of version 0.2 and earlier, by no more than a clock does.
FIRST_SEQ_SQL = """
    WITH RECURSIVE search (low, high) AS (
        SELECT (SELECT coalesce(min(seq), 1) FROM score_events), seq + 1 FROM leaderboards WHERE name = %(log)s
        UNION ALL
        SELECT CASE WHEN event.at < %(since)s THEN middle + 1 ELSE low END,
               CASE WHEN event.at < %(since)s THEN high ELSE middle END
        FROM search
        CROSS JOIN LATERAL (SELECT (low + high) / 2 AS middle) AS half
        LEFT JOIN LATERAL (
            SELECT created_at AS at FROM score_events WHERE seq >= middle ORDER BY seq LIMIT 1
        ) AS event ON true
        WHERE low < high
    )
    SELECT low FROM search WHERE low >= high
"""
VOIDABLE_SQL = """
    SELECT e.seq FROM score_events e
    WHERE e.seq > %(after)s AND e.seq <= %(last)s AND e.kind = ANY(%(kinds)s) AND {by} = %(who)s
      AND NOT EXISTS (SELECT FROM score_events v WHERE v.voids = e.seq)
    ORDER BY e.seq LIMIT %(limit)s
"""


class Portion(NamedTuple):
    """Events that can be voided, among those up to event `scanned`."""

    seqs: list[int]
    scanned: int


def first_seq_since(log: Log, since: datetime) -> int:
    """The first event that was written at `since` or later, whether there is one yet or not."""
    with log.connection.cursor() as cursor:
        cursor.execute(FIRST_SEQ_SQL, {"log": log.name, "since": since})
        row = cursor.fetchone()
    return int(row[0]) if row else 1


def portion(log: Log, *, user_id: str, actor: str, after: int, last: int, limit: int) -> Portion:
    """The next events after event `after` and up to `last`, of the user, or without one of the actor."""
    last = min(last, after + MAX_SCANNED)
    by, who = ("e.user_id", user_id) if user_id else ("e.actor", actor)
    parameters: dict[str, Any] = {
        "after": after,
        "last": last,
        "kinds": list(VOIDABLE_KINDS),
        "who": who,
        "limit": limit,
    }
    with log.connection.cursor() as cursor:
        cursor.execute(VOIDABLE_SQL.format(by=by), parameters)
        seqs = [seq for (seq,) in cursor.fetchall()]
    return Portion(seqs, seqs[-1] if len(seqs) == limit else last)
