"""What the rollup answers. Each answer is as of one event, and says which; days, weeks and hours are those of UTC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, NamedTuple, TypeVar

from django.db.backends.utils import CursorWrapper

from scores.exceptions import AnalyticsBuilding
from scores.log.head import Log

# Its own moment, for who has folded all events: nothing is missing up to now.
POSITION_SQL = """
    SELECT p.epoch = l.epoch, p.seq, CASE WHEN p.seq = l.seq THEN clock_timestamp() ELSE p.at END, clock_timestamp()
    FROM leaderboards l JOIN engagement_position p ON p.log = l.name WHERE l.name = %s
"""
DAYS_SQL = "SELECT day, {0} FROM engagement_days WHERE day >= %s AND day <= %s"
WEEKS_SQL = "SELECT week, sum(players)::bigint FROM engagement_weeks WHERE week >= %s AND week <= %s GROUP BY week"
HOURS_SQL = """
    SELECT hour, sum(increments)::bigint, sum(points), sum(scores)::bigint, sum(voids)::bigint, sum(voided)
    FROM engagement_hours WHERE hour >= %s AND hour < %s GROUP BY hour
"""
ACTIONS_SQL = """
    SELECT action, sum(increments)::bigint, sum(points), sum(voids)::bigint, sum(voided) FROM engagement_hours
    WHERE hour >= %s AND hour < %s AND action <> ''
    GROUP BY action HAVING sum(increments) > 0 OR sum(voids) > 0 ORDER BY 2 DESC, 1 LIMIT %s OFFSET %s
"""
RETENTION_SQL = """
    SELECT cohort, (week - cohort) / 7, players FROM engagement_weeks
    WHERE cohort >= %s AND cohort <= %s AND week >= cohort AND week <= %s
"""
SOCKETS_SQL = "SELECT hour, peak FROM engagement_sockets WHERE hour >= %s AND hour < %s"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)
Row = dict[str, Any]
Moment = TypeVar("Moment", date, datetime)


class Active(NamedTuple):
    """A request for the number of players of each day, or of each week that has a day of the range."""

    first: date
    last: date  # included
    by: Literal["day", "week"] = "day"


class NewPlayers(NamedTuple):
    """A request for the number of players whose first day it was, by day."""

    first: date
    last: date


class Hours(NamedTuple):
    """A request for what was played, by hour."""

    first: date
    last: date


class Actions(NamedTuple):
    """A request for the actions that were taken most."""

    first: date
    last: date
    limit: int
    offset: int = 0


class Retention(NamedTuple):
    """A request for what became of the players who first played in each of the `weeks` weeks up to that of `last`."""

    last: date
    weeks: int


class Sockets(NamedTuple):
    """A request for the most sockets that were open at once, by hour; `None` where nobody counted."""

    first: date
    last: date


Question = Active | NewPlayers | Hours | Actions | Retention | Sockets


class Engagement(NamedTuple):
    """An answer: rows that all have the same keys, as of event `seq` of the log `origin`."""

    rows: list[Row]
    origin: str
    seq: int
    as_of: datetime | None  # up to this moment nothing is missing; None: no event has been counted
    age_s: float  # since that moment


def monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def answers(log: Log, questions: Sequence[Question]) -> list[Engagement]:
    """The answers to all, as of one event. Raises `AnalyticsBuilding` while nothing of this log has been folded."""
    log.head()  # starts the log if there is none, which the read-only transaction cannot do
    with log.snapshot() as head, log.connection.cursor() as cursor:
        cursor.execute(POSITION_SQL, [log.name])
        row = cursor.fetchone()
        if row is None or not row[0]:
            raise AnalyticsBuilding
        _, seq, as_of, now = row
        age_s = max((now - as_of).total_seconds(), 0.0) if as_of else 0.0
        return [Engagement(rows_of(cursor, each), head.origin, seq, as_of, age_s) for each in questions]


def rows_of(cursor: CursorWrapper, question: Question) -> list[Row]:
    answer: Callable[[CursorWrapper, Any], list[Row]] = ANSWERS[type(question)]
    return answer(cursor, question)


def _active(cursor: CursorWrapper, asked: Active) -> list[Row]:
    if asked.by == "day":
        return _by_day(cursor, "players", asked.first, asked.last)
    first, last = monday(asked.first), monday(asked.last)
    cursor.execute(WEEKS_SQL, [first, last])
    found = dict(cursor.fetchall())
    return [{"week": week.isoformat(), "players": found.get(week, 0)} for week in _steps(first, last, WEEK)]


def _new_players(cursor: CursorWrapper, asked: NewPlayers) -> list[Row]:
    return _by_day(cursor, "new_players", asked.first, asked.last)


def _by_day(cursor: CursorWrapper, column: str, first: date, last: date) -> list[Row]:
    cursor.execute(DAYS_SQL.format(column), [first, last])
    found = dict(cursor.fetchall())
    return [{"day": day.isoformat(), "players": found.get(day, 0)} for day in _steps(first, last, DAY)]


def _hours(cursor: CursorWrapper, asked: Hours) -> list[Row]:
    begin, end = _moments(asked.first, asked.last)
    cursor.execute(HOURS_SQL, [begin, end])
    found = {hour: tuple(map(int, figures)) for hour, *figures in cursor.fetchall()}
    names = ("increments", "points", "scores", "voids", "voided")
    nothing = (0,) * len(names)
    return [
        {"hour": _text(hour)} | dict(zip(names, found.get(hour, nothing), strict=True))
        for hour in _steps(begin, end - HOUR, HOUR)
    ]


def _actions(cursor: CursorWrapper, asked: Actions) -> list[Row]:
    cursor.execute(ACTIONS_SQL, [*_moments(asked.first, asked.last), asked.limit, asked.offset])
    return [
        {"action": action, "increments": increments, "points": int(points), "voids": voids, "voided": int(voided)}
        for action, increments, points, voids, voided in cursor.fetchall()
    ]


def _retention(cursor: CursorWrapper, asked: Retention) -> list[Row]:
    """One row for each cohort and week, as a table has it that programs read; a cohort's own week is week 0."""
    newest = monday(asked.last)
    oldest = newest - WEEK * (asked.weeks - 1)
    cursor.execute(RETENTION_SQL, [oldest, newest, newest])
    found = {(cohort, weeks): players for cohort, weeks, players in cursor.fetchall()}
    rows: list[Row] = []
    for cohort in _steps(oldest, newest, WEEK):
        of_cohort = found.get((cohort, 0), 0)
        for after in range((newest - cohort) // WEEK + 1):
            players = found.get((cohort, after), 0)
            share = round(players / of_cohort, 4) if of_cohort else None
            rows.append({"cohort": cohort.isoformat(), "week": after, "players": players, "share": share})
    return rows


def _sockets(cursor: CursorWrapper, asked: Sockets) -> list[Row]:
    begin, end = _moments(asked.first, asked.last)
    cursor.execute(SOCKETS_SQL, [begin, end])
    found = dict(cursor.fetchall())
    return [{"hour": _text(hour), "peak": found.get(hour)} for hour in _steps(begin, end - HOUR, HOUR)]


ANSWERS: dict[type[Any], Callable[[CursorWrapper, Any], list[Row]]] = {
    Active: _active,
    NewPlayers: _new_players,
    Hours: _hours,
    Actions: _actions,
    Retention: _retention,
    Sockets: _sockets,
}


def columns_of(question: Question) -> Sequence[str]:
    """The keys of the rows, also where there are none."""
    if isinstance(question, Active):
        return (question.by, "players")
    return COLUMNS[type(question)]


COLUMNS: dict[type[Any], Sequence[str]] = {
    NewPlayers: ("day", "players"),
    Hours: ("hour", "increments", "points", "scores", "voids", "voided"),
    Actions: ("action", "increments", "points", "voids", "voided"),
    Retention: ("cohort", "week", "players", "share"),
    Sockets: ("hour", "peak"),
}


def _moments(first: date, last: date) -> tuple[datetime, datetime]:
    """The beginning of the first day, and the end of the last."""
    return datetime.combine(first, time(0), UTC), datetime.combine(last + DAY, time(0), UTC)


def _steps(first: Moment, last: Moment, step: timedelta) -> list[Moment]:
    return [first + step * n for n in range((last - first) // step + 1)]


def _text(hour: datetime) -> str:
    return f"{hour.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
