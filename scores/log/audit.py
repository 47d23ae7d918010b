"""The totals compared with the events that they are the sums of: what somebody changed by hand."""

from __future__ import annotations

from typing import NamedTuple

from scores.user_id import SERVICE_PREFIX

from .head import KNOWN_KINDS, Log

# What the events of each user add up to, since the newest correction or, without one, the oldest event that the log has.
# One statement, and so one snapshot; two passes over all events.
WRONG_TOTALS_SQL = """
    WITH anchors AS (
        SELECT user_id, coalesce(max(seq) FILTER (WHERE kind = 'correction'), min(seq)) AS seq
        FROM score_events WHERE kind = ANY(%(kinds)s) AND stream IS NULL AND NOT starts_with(user_id, %(services)s)
        GROUP BY user_id
    ), sums AS (
        SELECT e.user_id, sum(CASE WHEN e.seq = a.seq THEN e.total ELSE e.points END) AS total
        FROM score_events e JOIN anchors a ON a.user_id = e.user_id AND a.seq <= e.seq
        WHERE e.kind = ANY(%(kinds)s) AND e.stream IS NULL GROUP BY e.user_id
    )
    SELECT user_id, sums.total, s.score FROM sums LEFT JOIN user_scores s USING (user_id)
    WHERE s.score IS DISTINCT FROM sums.total ORDER BY user_id
"""


class WrongTotal(NamedTuple):
    """A user whose row was edited or deleted by hand."""

    user_id: str
    in_log: int  # what their events add up to
    in_table: int | None  # None: there is no row


def wrong_totals(log: Log) -> list[WrongTotal]:
    """The users whose total is not what their events add up to. Reads the whole log: 2 to 3 s per million events.

    Who has a total and no event is not looked at: old events may have been archived.
    """
    with log.connection.cursor() as cursor:
        cursor.execute(WRONG_TOTALS_SQL, {"kinds": KNOWN_KINDS, "services": SERVICE_PREFIX})
        return [WrongTotal(user_id, int(in_log), in_table) for user_id, in_log, in_table in cursor.fetchall()]
