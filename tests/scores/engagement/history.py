"""Logs of many weeks, made up at random, and what SQL over a whole log says of engagement: the oracle of the rollup."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from scores.log.head import log
from scores.models import Leaderboard

ACTIONS = [None, None, "win", "quest", "-3"]
STREAMS = ["laps", "trials"]
USERS = [f"player {n}" for n in range(40)]
INSERT_SQL = """
    INSERT INTO score_events (seq, user_id, kind, points, total, actor, action, stream, voids, created_at)
    VALUES (%s, %s, %s, %s, 0, %s, %s, %s, %s, %s)
"""
# The moments of the log, which only rise, and what was played: by other means than the fold's.
PLAYS_SQL = """
    WITH moments AS (
        SELECT e.*, max(CASE WHEN isfinite(created_at) THEN created_at END) OVER (ORDER BY seq) AS at FROM score_events e
    ), plays AS (
        SELECT m.*, (at AT TIME ZONE 'UTC')::date AS day, date_trunc('week', at AT TIME ZONE 'UTC')::date AS week
        FROM moments m WHERE kind IN ('increment', 'score') AND actor NOT LIKE 'service:board %%'
            AND user_id NOT LIKE 'service:%%' AND at IS NOT NULL
    ), firsts AS (
        SELECT user_id, min(day) AS first_day, min(week) AS first_week, max(day) AS last_day FROM plays GROUP BY user_id
    ), voids AS (
        SELECT m.at, o.action, CASE WHEN o.stream IS NULL THEN -m.points ELSE 0 END AS points
        FROM moments m JOIN score_events o ON o.seq = m.voids
        WHERE m.kind = 'void' AND o.actor NOT LIKE 'service:board %%' AND m.at IS NOT NULL
    ), filed AS (
        SELECT at, coalesce(action, '') AS action, (kind = 'increment')::int AS increments,
            CASE kind WHEN 'increment' THEN points ELSE 0 END AS points, (kind = 'score')::int AS scores,
            0 AS voids, 0 AS voided FROM plays
        UNION ALL SELECT at, coalesce(action, ''), 0, 0, 0, 1, points FROM voids
    )
"""
ORACLE = {
    "engagement_hours": """
        SELECT date_trunc('hour', at, 'UTC'), action, sum(increments), sum(points), sum(scores), sum(voids), sum(voided)
        FROM filed GROUP BY 1, 2
    """,
    "engagement_players": "SELECT user_id, first_day, last_day FROM firsts",
    "engagement_days": """
        SELECT day, count(DISTINCT user_id), count(DISTINCT user_id) FILTER (WHERE day = first_day)
        FROM plays JOIN firsts USING (user_id) GROUP BY day
    """,
    "engagement_weeks": """
        SELECT week, first_week, count(DISTINCT user_id) FROM plays JOIN firsts USING (user_id) GROUP BY 1, 2
    """,
}
COLUMNS = {
    "engagement_hours": "hour, action, increments, points, scores, voids, voided",
    "engagement_players": "user_id, first_day, last_day",
    "engagement_days": "day, players, new_players",
    "engagement_weeks": "week, cohort, players",
}


class History:
    """Appends random events to the log, without its writer, which knows one time only: that of the clock."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.at = datetime(2026, 8, 1, tzinfo=UTC)
        self.set_back = 0
        self.voidable: list[tuple[int, str, int, str | None]] = []

    def go_on(self, events: int) -> None:
        before = log.head().seq
        rows = [self._event(before + n) for n in range(1, events + 1)]
        with connection.cursor() as cursor:
            cursor.executemany(INSERT_SQL, rows)
            cursor.execute("UPDATE leaderboards SET seq = %s WHERE name = %s", [before + events, log.name])

    def _event(self, seq: int) -> list[Any]:
        chance = self.random.random()
        self.at += timedelta(minutes=self.random.expovariate(1 / 50))
        written_at: Any = self.at
        if chance < 0.02:
            written_at = self.random.choice(["infinity", "-infinity"])
        elif self.set_back or chance < 0.06:  # as clocks of version 0.2 were, for some events
            self.set_back = (self.set_back or self.random.randint(1, 20)) - 1
            written_at = self.at - timedelta(hours=self.random.randint(1, 30))
        user = self.random.choice(USERS[: 5 + seq // 40])
        kind = self.random.choices(
            ["increment", "score", "void", "correction", "block", "later"], [70, 12, 9, 5, 2, 2]
        )[0]
        points, actor, action, stream, voids = self.random.randint(1, 2**53 - 1), "", None, None, None
        if kind == "increment":
            actor = self.random.choice(["", "", "service:arena", "service:board weekly"])
            action = self.random.choice(ACTIONS)
        elif kind == "score":
            stream = self.random.choice(STREAMS)
        elif kind == "void":
            if not self.voidable:
                return self._event(seq)
            voids, user, points, stream = self.voidable.pop(self.random.randrange(len(self.voidable)))
            points, actor = -points, "service:arena"
        if kind in ("increment", "block") and chance > 0.97:
            user = "service:arena"
        if kind in ("increment", "score"):
            self.voidable.append((seq, user, points, stream))
        return [seq, user, kind, points, actor, action, stream, voids, written_at]


def rollup() -> dict[str, list[Any]]:
    return {table: rows(f"SELECT {columns} FROM {table}") for table, columns in COLUMNS.items()}


def oracle() -> dict[str, list[Any]]:
    return {table: rows(PLAYS_SQL + sql) for table, sql in ORACLE.items()}


def rows(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql.replace("%%", "%"))
        return sorted(cursor.fetchall())


def begin_again(*, keep: int) -> None:
    """As in a database that was put back to event `keep`, of which the log knows by its new epoch."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM score_events WHERE seq > %s", [keep])
    Leaderboard.objects.update(seq=keep)
    log.begin_epoch(log.head().origin)
