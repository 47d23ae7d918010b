"""The boards as a process knows them, and which of their periods a request means."""

from __future__ import annotations

import re
import threading
import time
from datetime import date, datetime
from typing import NamedTuple

from django.db import Error as DatabaseError

from scores.exceptions import BoardUnknown, NoStoreAnswers, PeriodInvalid, PeriodUnknown
from scores.log.head import Log, log
from scores.models import Board

from .calendar import start_of

LOOK_EVERY_S = 0.25  # as often as the tail looks at the log
DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
NUMBER = re.compile("[1-9][0-9]{0,8}")
# With the epoch: a log that was started again, or put back, has the same numbers for other boards.
CALENDAR_SQL = "SELECT epoch, calendar FROM leaderboards WHERE name = %s"
# Of each board the two newest periods that have begun; without any, the first that will. The latter for all boards at once:
# one board after the other, PostgreSQL went through the coming periods of all boards each time.
PERIODS_SQL = """
    SELECT b.id, p.number, p.starts_at, p.ends_at, p.first_seq, p.last_seq FROM boards b CROSS JOIN LATERAL (
        SELECT * FROM periods WHERE board_id = b.id AND first_seq IS NOT NULL ORDER BY number DESC LIMIT 2
    ) AS p
    UNION ALL
    SELECT * FROM (
        SELECT DISTINCT ON (board_id) board_id, number, starts_at, ends_at, first_seq, last_seq
        FROM periods WHERE first_seq IS NULL ORDER BY board_id, number
    ) AS c WHERE NOT EXISTS (SELECT FROM periods o WHERE o.board_id = c.board_id AND o.number < c.number)
    ORDER BY 1, 2
"""
PERIOD_COLUMNS = "number, starts_at, ends_at, first_seq, last_seq, closed_at"
BY_NUMBER_SQL = f"SELECT {PERIOD_COLUMNS} FROM periods WHERE board_id = %s AND number = %s"  # noqa: S608
BY_MOMENT_SQL = f"""
    SELECT {PERIOD_COLUMNS} FROM periods WHERE board_id = %(board)s
      AND (starts_at IS NULL OR starts_at <= %(at)s) AND (ends_at IS NULL OR ends_at > %(at)s)
    ORDER BY number DESC LIMIT 1
"""  # noqa: S608
LIST_SQL = f"""
    SELECT {PERIOD_COLUMNS} FROM periods WHERE board_id = %s AND first_seq IS NOT NULL
    ORDER BY number DESC LIMIT %s OFFSET %s
"""  # noqa: S608


class Span(NamedTuple):
    """A period of a board: when it is, and its stretch of the log, as far as that is known yet."""

    number: int
    starts_at: datetime | None
    ends_at: datetime | None
    first_seq: int | None
    last_seq: int | None
    closed_at: datetime | None = None  # of the newest periods, whose closing changes no catalogue, it may lack

    @property
    def is_current(self) -> bool:
        """Whether it has begun and not ended: events count in it."""
        return self.first_seq is not None and self.last_seq is None


class Known(NamedTuple):
    """A board, and its newest periods: those that have begun, and without any the first to come. In order."""

    board: Board
    newest: tuple[Span, ...]

    @property
    def current(self) -> Span:
        """The open period; without one, the newest that has ended, or else the first to come. Raises `PeriodUnknown`."""
        begun = [span for span in self.newest if span.first_seq is not None]
        if not self.newest:
            raise PeriodUnknown
        return begun[-1] if begun else self.newest[0]

    def among_newest(self, number: int) -> Span | None:
        """The period with this number, if it has begun and is one of the newest."""
        return next((span for span in self.newest if span.number == number and span.first_seq is not None), None)

    def recent(self, asked: str) -> Span | None:
        """The period that `asked` names, if it is one of the newest and is named by current, previous or its number."""
        if asked == "current":
            return self.current
        if asked == "previous":
            return self.among_newest(self.current.number - 1)
        return self.among_newest(int(asked)) if NUMBER.fullmatch(asked) else None


def day_of(asked: str) -> date:
    """Raises `PeriodInvalid` for what is no date."""
    if not DATE.fullmatch(asked):  # digits of other scripts are none either
        raise PeriodInvalid
    try:
        return date.fromisoformat(asked)
    except ValueError as error:  # there is no such date
        raise PeriodInvalid from error


class Catalogue:
    """All boards of a log, read again when they have changed. While the database is away, as they were known before."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._calendar: tuple[object, ...] | None = None  # epoch and number of changes; None: never read
        self._known: dict[str, Known] = {}
        self._looked_at = float("-inf")
        self._looked_in: str | None = None  # the log, by its origin, as this process knew it then
        self._is_read = False  # by the last look
        self._lock = threading.Lock()

    @property
    def is_due(self) -> bool:
        """Whether it is time for another look: at once in a log that began anew, whose boards may have the same names."""
        return self._origin != self._looked_in or time.monotonic() - self._looked_at >= LOOK_EVERY_S

    @property
    def _origin(self) -> str | None:
        seen = self._log.seen()
        return None if seen is None else seen.origin

    def look(self, *, now: bool = False) -> bool:
        """Read the boards again if they have changed; with `now`, also if they were looked at just before.

        Returns whether the boards are known as of now, or nearly. Raises Django's `DatabaseError` if they were never read.
        """
        if not (now or self.is_due):
            return self._is_read
        with self._lock:
            self._looked_at, self._looked_in = time.monotonic(), self._origin
            try:
                self._log.drop_dead_connection()
                self._read()
                self._is_read = True
            except DatabaseError:
                self._is_read = False
                self._log.connection.close()
                if self._calendar is None:
                    raise
            return self._is_read

    def _read(self) -> None:
        with self._log.connection.cursor() as cursor:
            cursor.execute(CALENDAR_SQL, [self._log.name])
            calendar = cursor.fetchone() or ()
            if calendar == self._calendar:
                return
            boards = {board.id: board for board in Board.objects.using(self._log.alias).order_by("name")}
            cursor.execute(PERIODS_SQL)
            newest: dict[int, list[Span]] = {board_id: [] for board_id in boards}
            for board_id, *columns in cursor.fetchall():
                if board_id in newest:
                    newest[board_id].append(Span(*columns))
        self._known = {board.name: Known(board, tuple(newest[board.id])) for board in boards.values()}
        self._calendar = calendar

    def find(self, name: str) -> Known | None:
        """The board as it was known at the last look."""
        return self._known.get(name)

    def board(self, name: str, *, is_away: bool = False) -> Known:
        """Raises `BoardUnknown`. One that was created a moment ago is looked for before that is said.

        If that cannot be done, raises `NoStoreAnswers`. With `is_away`, the database is not asked: a look at one that is
        silent takes seconds, which all readers would wait.
        """
        if is_away and self._calendar is not None:
            is_read = False
        else:
            is_read = self.look()
            if name not in self._known and is_read:
                is_read = self.look(now=True)
        known = self.find(name)
        if known is None:
            raise BoardUnknown if is_read else NoStoreAnswers
        return known

    def period(self, known: Known, asked: str) -> Span:
        """The period that `asked` names: current, previous, a date or a number.

        Raises `PeriodInvalid` for what names none, and `PeriodUnknown` for one that the board does not have, or not yet.
        """
        if (recent := known.recent(asked)) is not None:
            return recent
        if asked == "previous":
            return self._one(BY_NUMBER_SQL, [known.board.id, known.current.number - 1])
        if NUMBER.fullmatch(asked):
            return self._one(BY_NUMBER_SQL, [known.board.id, int(asked)])
        at = start_of(known.board, day_of(asked))
        return self._one(BY_MOMENT_SQL, {"board": known.board.id, "at": at})

    def periods(self, known: Known, *, limit: int, offset: int) -> list[Span]:
        """Those that have begun, the newest first."""
        with self._log.connection.cursor() as cursor:
            cursor.execute(LIST_SQL, [known.board.id, limit, offset])
            return [Span(*row) for row in cursor.fetchall()]

    def _one(self, sql: str, parameters: object) -> Span:
        with self._log.connection.cursor() as cursor:
            cursor.execute(sql, parameters)  # type: ignore[arg-type]  # a list or a dict, as the statement has it
            row = cursor.fetchone()
        if row is None or row[3] is None:
            raise PeriodUnknown
        return Span(*row)


catalogue = Catalogue(log)
