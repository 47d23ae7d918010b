"""What a board may be, and its life: created, changed, archived, deleted.

A definition has the same fields in a request, an answer and a TOML file. What decides who stands where is fixed once the
board exists; the rest may change. Every change of boards and periods happens under the lock on the head of the log, at
the log's own time, and raises `leaderboards.calendar`, by which followers notice it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connections, transaction

from scores.exceptions import (
    BoardArchived,
    BoardExists,
    BoardFixed,
    BoardInvalid,
    BoardsTooMany,
    BoardStreamInUse,
    BoardUnknown,
    Mistake,
)
from scores.log.head import Log
from scores.log.head import log as default_log
from scores.log.periods import BEGIN_SQL, END_SQL, Cursor, advance, latest, roll_over
from scores.models import BOARD_NAME, RESERVED, Board, Period

from .calendar import Span, span_at, spans, spans_back
from .documents import FIXED, Definition, Season, document, parse, secrets_of

logger = logging.getLogger(__name__)

# Rows of coming periods are made when fewer are left, and then more than that, so that it happens rarely.
LEAST_AHEAD, LEAST_TIME_AHEAD = 2, timedelta(hours=48)
MOST_AHEAD, MOST_TIME_AHEAD = 4, timedelta(hours=96)
# Of the past, when a board is created, since writers wait while their rows are inserted: 83 days of an hourly board.
MAX_PAST = 2_000
BOARDS_PER_TRANSACTION = 50  # that `extend` makes rows for: writers wait for it, so none has a statement of its own
STANDINGS_PER_TRANSACTION = 5_000

FIRST_EVENT_SQL = (
    "SELECT seq, CASE WHEN isfinite(created_at) THEN created_at END FROM score_events ORDER BY seq LIMIT 1"
)
NEWEST_EVENT_SQL = """
    SELECT seq, CASE WHEN isfinite(created_at) THEN created_at END FROM score_events ORDER BY seq DESC LIMIT 1
"""
# The first event that was written at each boundary or later, among those from `first` to just before `end`; `end` if none
# was. All boundaries are bisected side by side, each step a look-up by the primary key: there is no index on the time.
BISECT_SQL = """
    WITH RECURSIVE search (boundary, low, high) AS (
        SELECT boundary, %(first)s::bigint, %(end)s::bigint FROM unnest(%(boundaries)s::timestamptz[]) AS boundary
        UNION ALL
        SELECT boundary, CASE WHEN event.at < boundary THEN middle + 1 ELSE low END,
               CASE WHEN event.at < boundary THEN high ELSE middle END
        FROM search
        CROSS JOIN LATERAL (SELECT (low + high) / 2 AS middle) AS half
        LEFT JOIN LATERAL (
            SELECT created_at AS at FROM score_events WHERE seq >= middle ORDER BY seq LIMIT 1
        ) AS event ON true
        WHERE low < high
    )
    SELECT boundary, low FROM search WHERE low = high
"""
LAST_SQL = """
    SELECT b.id, p.number, p.ends_at, p.last_seq FROM unnest(%s::int[]) AS b (id)
    CROSS JOIN LATERAL (SELECT * FROM periods WHERE board_id = b.id ORDER BY number DESC LIMIT 1) AS p
"""
# By the database: the ORM would fetch the rows, and go through the standings for their number.
DELETE_SQL = (
    "DELETE FROM results WHERE board_id = %s",
    "DELETE FROM webhook_deliveries WHERE board_id = %s",
    "DELETE FROM board_positions WHERE board_id = %s",
    "DELETE FROM periods WHERE board_id = %s",
    "DELETE FROM boards WHERE id = %s",
)
FORGET_SQL = tuple(
    f"DELETE FROM {table} t USING unnest(%s::int[], %s::int[]) AS s (board_id, number) "  # noqa: S608  constants
    f"WHERE t.board_id = s.board_id AND t.{number} = s.number"
    for table, number in (("results", "period"), ("webhook_deliveries", "period"), ("periods", "number"))
)
# From one board to the next by the key of the standings, which may have millions of rows.
GONE_SQL = """
    WITH RECURSIVE found (id) AS (
        SELECT min(board_id) FROM standings
        UNION ALL
        SELECT (SELECT min(board_id) FROM standings WHERE board_id > found.id) FROM found WHERE found.id IS NOT NULL
    )
    SELECT id FROM found WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM boards WHERE boards.id = found.id) LIMIT 1
"""
# Boards that have few rows ahead of the time of the log, as it is by now. Without the lock.
SHORT_SQL = """
    WITH clock AS MATERIALIZED (
        SELECT greatest(l.at, least(clock_timestamp(), %(latest)s)) AS at FROM leaderboards l WHERE l.name = %(log)s
    ), ahead AS (
        SELECT p.board_id, count(*) AS rows, max(p.ends_at) AS until, bool_or(p.ends_at IS NULL) AS is_open
        FROM periods p, clock WHERE p.first_seq IS NULL AND p.starts_at > clock.at GROUP BY p.board_id
    )
    SELECT b.id FROM boards b CROSS JOIN clock LEFT JOIN ahead a ON a.board_id = b.id
    WHERE b.archived_at IS NULL AND b.period NOT IN ('forever', 'season')
      AND (a.rows IS NULL OR NOT a.is_open AND (a.rows < %(least)s OR a.until < clock.at + make_interval(secs => %(ahead_s)s)))
    ORDER BY b.id LIMIT %(limit)s
"""


class Changed(NamedTuple):
    """A definition before and after a change. They are equal if there was nothing to change."""

    before: Definition
    after: Definition

    @property
    def is_different(self) -> bool:
        return self.before != self.after


def create(definition: Definition, actor: str = "", *, log: Log = default_log) -> Board:
    """Make the board, with the periods of the past that the log has, the present one, and those ahead.

    Of the past there are at most `keep` periods, and `MAX_PAST`. Raises `BoardExists` or `BoardsTooMany`, and `BoardInvalid`
    if it ranks a stream that no board has.
    """
    columns = definition.columns()
    board = Board(**columns)
    past = Past(log)
    past.look_up(_boundaries(board, definition.seasons, past))  # before the lock: what is written stays where it is
    with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
        seq, at = _advance(cursor, log)
        rows = Board.objects.using(log.alias)
        if rows.filter(name=board.name).exists():
            raise BoardExists
        if rows.count() >= settings.MAX_BOARDS:
            raise BoardsTooMany
        if not definition.has_stream and board.stream is not None:
            _refuse_stream(board, log)
        board.created_at = at  # by the clock that ends periods: those that had ended by then are of the past
        board.save(using=log.alias, force_insert=True)
        past.renew()
        made = past.periods(board, _spans_of(board, definition.seasons, past, at), seq=seq)
        Period.objects.using(log.alias).bulk_create(made, batch_size=2_000)
        if definition.is_archived:
            _archive(board, seq, at, log)
        roll_over(cursor, log.name, seq=seq, at=at)
    _tell("created", board.name, actor, log)
    return board


def change(name: str, changes: object, actor: str = "", *, log: Log = default_log) -> Changed:
    """Change fields of a board, as a request names them. Returns what it was and what it is.

    `None` takes a field back to its default. Raises `BoardUnknown`, `BoardInvalid`, `BoardFixed` for fields that cannot
    change any more, with all of their names, or `BoardArchived`.
    """
    return _edit(name, lambda before: _changed(before, document(before), changes), actor, log)


def apply(name: str, fields: Mapping[str, Any], actor: str = "", *, log: Log = default_log) -> Changed:
    """Make the board what these fields say: as `change`, but what is not among them gets its default.

    A board that is archived stays so if nothing is said about it.
    """
    return _edit(
        name,
        lambda before: _changed(before, {"name": name, "archived": before.is_archived}, fields),
        actor,
        log,
    )


def _edit(name: str, edited: Callable[[Definition], Definition], actor: str, log: Log) -> Changed:
    with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
        seq, at = _advance(cursor, log)
        board = _board(name, log)
        cursor.execute(END_SQL, [seq, at])
        cursor.execute(BEGIN_SQL, [seq + 1, at])
        before = definition_of(board, log=log)
        after = edited(before)
        if is_changed := after != before:
            _refuse_fixed(before, after, at)
            for column, value in after.columns().items():
                setattr(board, column, value)
            board.save(using=log.alias)
            if after.seasons != before.seasons:
                _replace_seasons(board, after.seasons, at, log)
            if after.is_archived and not before.is_archived:
                _archive(board, seq, at, log)
        roll_over(cursor, log.name, seq=seq, at=at)
    if is_changed:
        _tell("changed", name, actor, log)
    return Changed(before, after)


def archive(name: str, actor: str = "", *, log: Log = default_log) -> Changed:
    """End the board: nothing new counts, and what it shows stays. Raises `BoardUnknown`."""
    return change(name, {"archived": True}, actor, log=log)


def delete(name: str, actor: str = "", *, log: Log = default_log, most_s: float = float("inf")) -> None:
    """Remove the board, at once, then its standings, in portions, for `most_s`. The events stay.

    Raises `BoardUnknown`, or `BoardStreamInUse` while other boards rank its stream: nobody could submit to it any more.
    The follower removes the standings that are left then, and the copy in Redis: it finds that the board is gone.
    """
    with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
        seq, at = _advance(cursor, log)
        board_id = _board(name, log).id
        others = Board.objects.using(log.alias).filter(stream=name).exclude(name=name).order_by("name")
        if rank_it := list(others.values_list("name", flat=True)):
            raise BoardStreamInUse(rank_it)
        for sql in DELETE_SQL:
            cursor.execute(sql, [board_id])
        roll_over(cursor, log.name, seq=seq, at=at)
    _tell("deleted", name, actor, log)
    until = time.monotonic() + most_s
    while _delete_standings(board_id, log) and time.monotonic() < until:
        pass


def sweep(log: Log = default_log) -> bool:
    """Remove a portion of the standings of boards that are gone. Returns whether there were any."""
    with log.connection.cursor() as cursor:
        cursor.execute(GONE_SQL)
        row = cursor.fetchone()
    return row is not None and _delete_standings(row[0], log)


def definition_of(board: Board, *, log: Log = default_log) -> Definition:
    """The definition of a board that exists."""
    seasons = []
    if board.period == Board.PeriodKind.SEASON:
        periods = Period.objects.using(log.alias).filter(board=board).order_by("number")
        spans_of_seasons = periods.values_list("starts_at", "ends_at")
        seasons = [Season(start, end) for start, end in spans_of_seasons if start is not None and end is not None]
    return Definition.of(board, seasons)


def extend(log: Log = default_log) -> int:
    """Make rows of coming periods for the boards that have few ahead. Returns for how many.

    A look without a lock if there is nothing to do. Periods that began and ended while there were no rows for them get
    theirs, with true boundaries. Several processes may call it at the same time.
    """
    extended, made = 0, 1
    while made and _short(log):
        with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
            seq, at = _advance(cursor, log)
            cursor.execute(END_SQL, [seq, at])
            cursor.execute(BEGIN_SQL, [seq + 1, at])
            boards = Board.objects.using(log.alias).filter(id__in=_short(log))  # again: now nobody else makes them
            made = _extend(boards, seq, at, log)
            roll_over(cursor, log.name, seq=seq, at=at)
        extended += made
    return extended


def forget(log: Log, periods: Sequence[tuple[int, int]]) -> None:
    """Delete ended periods, each a board and a number, with their results. What stands in them is no longer found."""
    numbers = [[board for board, _ in periods], [number for _, number in periods]]
    with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
        seq, at = _advance(cursor, log)
        for sql in FORGET_SQL:
            cursor.execute(sql, numbers)
        roll_over(cursor, log.name, seq=seq, at=at)


def _extend(boards: Iterable[Board], seq: int, at: datetime, log: Log) -> int:
    by_id = {board.id: board for board in boards}
    with log.connection.cursor() as cursor:
        cursor.execute(LAST_SQL, [list(by_id)])
        lasts = {board_id: Last(*columns) for board_id, *columns in cursor.fetchall()}
    new: list[tuple[Board, Last, list[Span]]] = []
    for board in by_id.values():
        last = lasts.get(board.id)
        if last is None:  # somebody deleted the rows by hand
            last = Last(0, span_at(board, at).starts_at, None)
        new.append((board, last, _following(board, last.ends_at, at)))
    past = Past(log)
    past.look_up({moment for _, _, following in new for span in following for moment in span if moment})
    rows: list[Period] = []
    for board, last, following in new:
        rows += past.periods(board, following, seq=seq, number=last.number + 1, from_seq=(last.last_seq or 0) + 1)
    Period.objects.using(log.alias).bulk_create(rows, batch_size=2_000)
    return sum(bool(following) for _, _, following in new)


def _short(log: Log) -> list[int]:
    with log.connection.cursor() as cursor:
        cursor.execute(
            SHORT_SQL,
            {
                "log": log.name,
                "latest": latest(),
                "ahead_s": LEAST_TIME_AHEAD.total_seconds(),
                "least": LEAST_AHEAD,
                "limit": BOARDS_PER_TRANSACTION,
            },
        )
        return [board_id for (board_id,) in cursor.fetchall()]


class Last(NamedTuple):
    """The last row of a board's periods."""

    number: int
    ends_at: datetime | None
    last_seq: int | None


class Past:
    """Where boundaries of the past are in a log: which event was the first at each, or later."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._found: dict[datetime, int] = {}
        first = self._event(FIRST_EVENT_SQL)
        self.first_seq = first[0] if first else None  # None: there are no events
        self.first_at = first[1] if first else None
        self._seq = 0
        self._at: datetime | None = None
        self.renew()

    def renew(self) -> None:
        """See what was written since, once that has ended: under the lock on the head."""
        newest = self._event(NEWEST_EVENT_SQL)
        if newest is not None:
            if self.first_seq is None:
                self.first_seq = newest[0]
            self._seq, self._at = newest

    def _event(self, sql: str) -> tuple[int, datetime | None] | None:
        with self._log.connection.cursor() as cursor:
            cursor.execute(sql)
            row: tuple[int, datetime | None] | None = cursor.fetchone()
            return row

    def look_up(self, boundaries: Iterable[datetime]) -> None:
        """Find those that are not after the newest event: later events cannot change where they are."""
        if self.first_seq is None or self._at is None:
            return
        wanted = sorted(moment for moment in set(boundaries) - self._found.keys() if moment <= self._at)
        if not wanted:
            return
        with self._log.connection.cursor() as cursor:
            cursor.execute(BISECT_SQL, {"boundaries": wanted, "first": self.first_seq, "end": self._seq + 1})
            self._found |= dict(cursor.fetchall())

    def periods(
        self, board: Board, of: Sequence[Span], *, seq: int, number: int = 1, from_seq: int = 1
    ) -> list[Period]:
        """Rows for these spans, under the lock on the head, which is at `seq`.

        The numbers of boundaries after the newest event stay open: the rollover that follows fills them in.
        """
        self.look_up(moment for span in of for moment in span if moment is not None)
        rows = []
        for span in of:
            first_seq = self._seq_at(span.starts_at, from_seq)
            end = None if span.ends_at is None else self._seq_at(span.ends_at, from_seq)
            if span.starts_at is None:
                first_seq = max(self.first_seq or seq + 1, from_seq)
            rows.append(
                Period(
                    board=board,
                    number=number,
                    starts_at=span.starts_at,
                    ends_at=span.ends_at,
                    first_seq=first_seq,
                    last_seq=None if end is None else end - 1,
                )
            )
            number += 1
        return rows

    def _seq_at(self, moment: datetime | None, least: int) -> int | None:
        found = None if moment is None else self._found.get(moment)
        return None if found is None else max(found, least)


def _boundaries(board: Board, seasons: Sequence[Season], past: Past) -> set[datetime]:
    """The moments that periods of the past are cut at, by now or a little later."""
    return {moment for span in _spans_of(board, seasons, past, latest()) for moment in span if moment is not None}


def _spans_of(board: Board, seasons: Sequence[Season], past: Past, at: datetime) -> list[Span]:
    """The periods of a new board, from the first event of the log on."""
    if board.period == Board.PeriodKind.FOREVER:
        return [Span(None, None)]
    if board.period == Board.PeriodKind.SEASON:
        return [Span(season.starts_at, season.ends_at) for season in seasons]
    most = MAX_PAST if board.keep is None else min(board.keep, MAX_PAST)
    begun: list[Span] = []
    for span in spans_back(board, at):
        is_enough = begun and (past.first_at is None or span.ends_at is None or span.ends_at <= past.first_at)
        if is_enough or len(begun) > most:
            break
        begun.append(span)
    begun.reverse()
    return begun + _following(board, begun[-1].ends_at, at)


def _following(board: Board, after: datetime | None, at: datetime) -> list[Span]:
    """The periods from `after` on, those that were missed by `at` and those to have ahead of it."""
    if after is None:
        return []
    following: list[Span] = []
    ahead = 0
    for span in spans(board, after):
        # By other rules for the zone than the last row was made by, the cut may be a little earlier.
        following.append(Span(after, span.ends_at) if not following else span)
        ahead += span.starts_at is not None and span.starts_at > at
        if span.ends_at is None or (ahead >= MOST_AHEAD and span.ends_at >= at + MOST_TIME_AHEAD):
            break
    return following


def _advance(cursor: Cursor, log: Log) -> tuple[int, datetime]:
    """Lock the head; where the log ends, and its time, which goes on. Starts the log if there is none."""
    while (found := advance(cursor, log.name)) is None:
        log.start()
    return found


def _tell(what: str, name: str, actor: str, log: Log) -> None:
    """A line for operators, once it is true: whoever does several changes in one transaction may take them all back."""
    by = f" by {actor}" if actor else ""
    transaction.on_commit(lambda: logger.info("Board %s was %s%s", name, what, by), using=log.alias)


def _board(name: str, log: Log) -> Board:
    if name == RESERVED:
        raise BoardFixed([RESERVED])
    if not re.fullmatch(BOARD_NAME, name):
        raise BoardUnknown
    board = Board.objects.using(log.alias).filter(name=name).first()
    if board is None:
        raise BoardUnknown
    return board


def _refuse_stream(board: Board, log: Log) -> None:
    """Unless another board has the stream that this one ranks, and its scores are what the fold takes."""
    of = Board.objects.using(log.alias).filter(name=board.stream, stream=board.stream).first()
    if of is None:
        raise BoardInvalid([Mistake("stream", "unknown_stream", "No board of this name has a stream of its own.")])
    if board.fold == Board.Fold.SUM and of.fold != Board.Fold.SUM:
        # A sum has a bound that the order of events must not matter for, so it adds positive numbers only.
        raise BoardInvalid(
            [Mistake("fold", "not_with_stream", f"Only a sum of points can be added: {of.name} is none.")]
        )


def _changed(before: Definition, fields: dict[str, Any], changes: object) -> Definition:
    """The definition that these fields are with the changes, to take the place of the one before."""
    if not isinstance(changes, Mapping):
        return parse(changes)  # which says what is wrong
    try:
        return parse({**secrets_of(before), **fields, **changes})
    except BoardInvalid as error:
        # First of all, whether it can change: a monthly board has no weekday, but this one stays weekly.
        told = document(before)
        fixed = [field for field in FIXED if field in changes and changes[field] != told.get(field)]
        if fixed:
            raise BoardFixed(fixed) from error
        raise


def _refuse_fixed(before: Definition, after: Definition, at: datetime) -> None:
    fixed = [field for field, name in FIXED.items() if getattr(after, name) != getattr(before, name)]
    if before.has_stream and after.has_stream and "stream" in fixed:
        fixed.remove("stream")  # it has the name of the board, which is among them
    if [s for s in after.seasons if s.starts_at <= at] != [s for s in before.seasons if s.starts_at <= at]:
        fixed.append("seasons")
    if before.is_archived and not after.is_archived:
        fixed.append("archived")
    if fixed:
        raise BoardFixed(fixed)
    rules = ("seasons", "submitters", "least", "most")
    if before.is_archived and any(getattr(after, name) != getattr(before, name) for name in rules):
        raise BoardArchived


def _replace_seasons(board: Board, seasons: Sequence[Season], at: datetime, log: Log) -> None:
    """Those that have begun are the same; all later ones are made anew."""
    periods = Period.objects.using(log.alias).filter(board=board)
    periods.filter(starts_at__gt=at).delete()
    Period.objects.using(log.alias).bulk_create(
        Period(board=board, number=number, starts_at=season.starts_at, ends_at=season.ends_at)
        for number, season in enumerate(seasons, 1)
        if season.starts_at > at
    )


def _archive(board: Board, seq: int, at: datetime, log: Log) -> None:
    """The period that is open ends with the newest event, and those ahead never begin."""
    Board.objects.using(log.alias).filter(id=board.id).update(archived_at=at)
    periods = Period.objects.using(log.alias).filter(board=board)
    periods.filter(first_seq=None, starts_at__gt=at).delete()
    periods.filter(last_seq=None).exclude(first_seq=None).update(last_seq=seq)
    periods.filter(first_seq=None).update(first_seq=seq + 1, last_seq=seq)


def _delete_standings(board_id: int, log: Log) -> bool:
    """A portion of them; returns whether there were any."""
    with connections[log.alias].cursor() as cursor:
        cursor.execute(
            "DELETE FROM standings WHERE (board_id, period, user_id) IN ("
            "SELECT board_id, period, user_id FROM standings WHERE board_id = %s LIMIT %s)",
            [board_id, STANDINGS_PER_TRANSACTION],
        )
        return bool(cursor.rowcount)
