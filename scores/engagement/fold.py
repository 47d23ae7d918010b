"""The fold of the log into the tables of engagement: a slice of the log in one transaction, together with its position.

Play is an increment or a score of a stream, for whomever: a game server acts for the player. A reward of a board is no play,
and a void does not make that nobody played. Each event is at the newest moment that the log has shown so far, so days only
rise, and one date per player tells whether they have been counted on a day.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from scores.log.head import EVENT_MARK_SQL, Log
from scores.log.periods import LIMITS_SQL
from scores.user_id import REWARDER_PREFIX, SERVICE_PREFIX

EVENTS_PER_FOLD = 2_000
TABLES = ("engagement_hours", "engagement_days", "engagement_weeks", "engagement_players")

LOOK_SQL = f"""
    SELECT l.epoch, l.seq, p.epoch, p.seq, p.mark, p.at, coalesce({EVENT_MARK_SQL.format("p.seq")}, 0)
    FROM leaderboards l LEFT JOIN engagement_position p ON p.log = l.name WHERE l.name = %s
"""  # noqa: S608  constants
# The commit does not wait for the disk: see `boards.standings`. Rows and position are lost together.
BEGIN_SQL = f"{LIMITS_SQL}, set_config('synchronous_commit', 'off', true)"
START_SQL = """
    INSERT INTO engagement_position (log, epoch, seq, mark) VALUES (%s, %s, 0, 0) ON CONFLICT DO NOTHING
"""
LOCK_SQL = "SELECT seq, mark FROM engagement_position WHERE log = %s FOR UPDATE"
RESTART_SQL = "UPDATE engagement_position SET epoch = %s, seq = 0, mark = 0, at = NULL WHERE log = %s"
# First in its transaction: of two that fold at once, the second waits here, finds another position and does nothing.
ADVANCE_SQL = f"""
    UPDATE engagement_position SET epoch = %(epoch)s, seq = %(last)s,
        mark = coalesce({EVENT_MARK_SQL.format("%(last)s")}, 0),
        at = greatest(at, (SELECT max(created_at) FROM score_events
                           WHERE seq > %(before)s AND seq <= %(last)s AND isfinite(created_at)))
    WHERE log = %(log)s AND seq = %(before)s AND mark = %(mark)s
"""  # noqa: S608  constants
# A void is filed under the action of what it takes back. By look-ups instead of joins or EXISTS, here and below: PostgreSQL
# plans for a slice of any length, and would read whole tables. All parts see the players as they were before the slice;
# `known` are those whom it shows on a new day, and `fresh` the days on which somebody plays for the first time.
FOLD_SQL = """
    WITH events AS MATERIALIZED (
        SELECT e.kind, e.points, e.stream, e.user_id,
            CASE WHEN e.voids IS NULL THEN coalesce(e.action, '')
                 ELSE coalesce((SELECT o.action FROM score_events o WHERE o.seq = e.voids), '') END AS action,
            greatest(%(at)s::timestamptz, max(CASE WHEN isfinite(e.created_at) THEN e.created_at END) OVER (ORDER BY e.seq))
                AS at,
            e.kind IN ('increment', 'score') AND NOT starts_with(e.actor, %(rewarder)s)
                AND NOT starts_with(e.user_id, %(service)s) AS is_play,
            CASE WHEN e.kind = 'void' THEN NOT starts_with(
                coalesce((SELECT o.actor FROM score_events o WHERE o.seq = e.voids), ''), %(rewarder)s
            ) ELSE false END AS is_void
        FROM score_events e WHERE e.seq > %(before)s AND e.seq <= %(last)s
    ), hours AS (
        INSERT INTO engagement_hours AS h (hour, action, increments, points, scores, voids, voided)
        SELECT date_bin('1 hour', at, timestamptz '2000-01-01 00:00:00+00'), action,
            count(*) FILTER (WHERE kind = 'increment'),
            coalesce(sum(points) FILTER (WHERE kind = 'increment'), 0),
            count(*) FILTER (WHERE kind = 'score'),
            count(*) FILTER (WHERE kind = 'void'),
            coalesce(sum(-points) FILTER (WHERE kind = 'void' AND stream IS NULL), 0)
        FROM events WHERE (is_play OR is_void) AND at IS NOT NULL
        GROUP BY 1, 2
        ON CONFLICT (hour, action) DO UPDATE SET increments = h.increments + excluded.increments,
            points = h.points + excluded.points, scores = h.scores + excluded.scores,
            voids = h.voids + excluded.voids, voided = h.voided + excluded.voided
    ), played AS MATERIALIZED (
        SELECT DISTINCT user_id, (at AT TIME ZONE 'UTC')::date AS day FROM events WHERE is_play AND at IS NOT NULL
    ), known AS MATERIALIZED (
        SELECT p.user_id, p.last_day, k.last_day AS seen_day, coalesce(k.first_day, p.first_day) AS first_day
        FROM (SELECT user_id, min(day) AS first_day, max(day) AS last_day FROM played GROUP BY user_id) AS p
        LEFT JOIN LATERAL (SELECT * FROM engagement_players WHERE user_id = p.user_id LIMIT 1) AS k ON true
        WHERE k.last_day IS NULL OR p.last_day > k.last_day
    ), fresh AS MATERIALIZED (
        SELECT user_id, day, first_day, seen_day FROM known JOIN played USING (user_id)
        WHERE seen_day IS NULL OR day > seen_day
    ), days AS (
        INSERT INTO engagement_days AS d (day, players, new_players)
        SELECT day, count(*), count(*) FILTER (WHERE day = first_day) FROM fresh GROUP BY day
        ON CONFLICT (day) DO UPDATE SET players = d.players + excluded.players,
            new_players = d.new_players + excluded.new_players
    ), weeks AS (
        INSERT INTO engagement_weeks AS w (week, cohort, players)
        SELECT week, cohort, count(*) FROM (
            SELECT DISTINCT user_id, date_trunc('week', day::timestamp)::date AS week,
                date_trunc('week', first_day::timestamp)::date AS cohort, seen_day
            FROM fresh
        ) AS f WHERE seen_day IS NULL OR week > date_trunc('week', seen_day::timestamp)::date
        GROUP BY week, cohort
        ON CONFLICT (week, cohort) DO UPDATE SET players = w.players + excluded.players
    )
    INSERT INTO engagement_players AS k (user_id, first_day, last_day) SELECT user_id, first_day, last_day FROM known
    ON CONFLICT (user_id) DO UPDATE SET last_day = excluded.last_day
"""


class View(NamedTuple):
    """The end of the log, and the position of the rollup: its epoch is `None` if it has none."""

    epoch: UUID
    head: int
    folded_epoch: UUID | None
    seq: int
    mark: int
    at: datetime | None
    mark_there: int  # of the event that the log now has at the position; 0 if it has none

    @property
    def is_same_log(self) -> bool:
        """Whether the log continues what was folded: it has the very event at the position.

        Within an epoch, an event that is gone was archived, and proves nothing.
        """
        if self.folded_epoch is None or self.head < self.seq:
            return False
        return self.mark == self.mark_there or (self.mark_there == 0 and self.epoch == self.folded_epoch)


class EngagementFold:
    """The rollup of a log. Two processes may fold at once: one of them does, and the other learns of it."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def fold(self) -> bool:
        """Move the rollup by at most a slice. Returns whether there is more, after a rest as long as the work was.

        So it takes half of a CPU at most, also when it counts years of events anew.
        """
        started = time.monotonic()
        view = self._look()
        if view is None:
            return False
        if not view.is_same_log:
            self._begin(view)
            return True
        last = min(view.head, view.seq + EVENTS_PER_FOLD)
        if last == view.seq and view.epoch == view.folded_epoch:
            return False
        self._move(view, last)
        if last == view.head:
            return False
        time.sleep(time.monotonic() - started)
        return True

    def empty(self) -> None:
        """Forget what was folded: it is folded anew from the first event."""
        self._log.head()  # it is there
        view = self._look()
        assert view is not None
        self._begin(view)

    def behind(self) -> int:
        """How many events have not been folded."""
        view = self._look()
        return 0 if view is None else view.head - (view.seq if view.is_same_log else 0)

    def _look(self) -> View | None:
        """Where log and rollup are: a glance. `None` if there is no log yet."""
        with self._log.connection.cursor() as cursor:
            cursor.execute(LOOK_SQL, [self._log.name])
            row = cursor.fetchone()
        if row is None:
            return None
        epoch, head, folded_epoch, seq, mark, at, mark_there = row
        return View(epoch, head, folded_epoch, seq or 0, mark or 0, at, mark_there)

    def _begin(self, view: View) -> None:
        """Empty the tables, unless another process has just moved them."""
        with transaction.atomic(using=self._log.alias), self._log.connection.cursor() as cursor:
            cursor.execute(BEGIN_SQL)
            cursor.execute(START_SQL, [self._log.name, view.epoch])
            cursor.execute(LOCK_SQL, [self._log.name])
            if cursor.fetchone() != (view.seq, view.mark):
                return
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608  constants
            cursor.execute(RESTART_SQL, [view.epoch, self._log.name])

    def _move(self, view: View, last: int) -> None:
        values: dict[str, Any] = {
            "log": self._log.name,
            "epoch": view.epoch,
            "before": view.seq,
            "mark": view.mark,
            "last": last,
            "at": view.at,
            "rewarder": REWARDER_PREFIX,
            "service": SERVICE_PREFIX,
        }
        with transaction.atomic(using=self._log.alias), self._log.connection.cursor() as cursor:
            cursor.execute(BEGIN_SQL)
            cursor.execute(ADVANCE_SQL, values)
            if cursor.rowcount and last > view.seq:
                cursor.execute(FOLD_SQL, values)
