"""The standings in PostgreSQL: each board's fold of the log, at a position that moves in the same transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

from django.db import IntegrityError, OperationalError, transaction
from django.db.backends.utils import CursorWrapper
from psycopg.errors import SerializationFailure

from scores.log.head import KNOWN_KINDS, Log
from scores.log.periods import LIMITS_SQL
from scores.models import MAX_TOTAL, Board, BoardStanding
from scores.user_id import REWARDER_PREFIX

from .fold import LogEvent, Part, Rules, Slice
from .history import derive, derive_in_slices

INSERT_SQL = "INSERT INTO standings (board_id, period, user_id, key, tie, reached_seq, hidden) "
EVENTS_SQL = """
    SELECT seq, user_id, kind, points, action, stream, starts_with(actor, %s) FROM score_events
    WHERE seq > %s AND seq <= %s AND kind = ANY(%s) ORDER BY seq
"""
MOVE_SQL = """
    INSERT INTO standings AS s (board_id, period, user_id, key, tie, reached_seq)
    SELECT b.board_id, b.period, t.user_id, t.key, CASE WHEN b.is_first THEN -t.seq ELSE 0 END, t.seq
    FROM unnest(%s::int[], %s::int[], %s::bool[]) AS b (board_id, period, is_first),
         unnest(%s::text[], %s::bigint[], %s::bigint[]) AS t (user_id, key, seq)
    ON CONFLICT (board_id, period, user_id) DO UPDATE
"""
MOVES = {
    Board.Fold.SUM.value: MOVE_SQL
    + f"SET key = greatest(least(s.key + excluded.key, {MAX_TOTAL}), -{MAX_TOTAL}), "
    + "tie = excluded.tie, reached_seq = excluded.reached_seq",
    Board.Fold.BEST.value: MOVE_SQL
    + "SET key = excluded.key, tie = excluded.tie, reached_seq = excluded.reached_seq WHERE excluded.key > s.key",
    Board.Fold.LATEST.value: MOVE_SQL
    + "SET key = excluded.key, tie = excluded.tie, reached_seq = excluded.reached_seq",
}
FORGET_SQL = """
    DELETE FROM standings s USING periods p, unnest(%s::text[]) AS u (user_id)
    WHERE p.board_id = %s AND p.first_seq <= %s
      AND s.board_id = p.board_id AND s.period = p.number AND s.user_id = u.user_id
"""
ADVANCE_SQL = "UPDATE board_positions SET seq = %s WHERE log = %s AND board_id = ANY(%s) AND seq = %s"
# Boards without a position in this log. One that has run out of rows for its periods is not built: events that are in none
# yet would be passed by.
UNBUILT_SQL = """
    SELECT b.id FROM leaderboards l CROSS JOIN boards b
    LEFT JOIN board_positions p ON p.board_id = b.id AND p.log = l.name
    WHERE l.name = %s AND (p.seq IS NULL OR p.seq > l.seq) AND (
        b.archived_at IS NOT NULL OR b.period IN ('forever', 'season')
        OR EXISTS (SELECT FROM periods o WHERE o.board_id = b.id AND o.first_seq IS NOT NULL AND o.last_seq IS NULL)
    ) ORDER BY b.id
"""
BUILT_SQL = """
    INSERT INTO board_positions (board_id, log, seq) VALUES (%s, %s, %s)
    ON CONFLICT (board_id, log) DO UPDATE SET seq = excluded.seq
"""
POSITIONS_SQL = "SELECT board_id, seq FROM board_positions WHERE log = %s"
# The commit does not wait for the disk, or the increments that commit meanwhile would wait with it. Rows and position are lost
# together then, and come again from the log, which is on the disk; and whatever is decided by a position and flushed, as a
# close is, takes the position to the disk with it.
PROJECTION_SQL = f"{LIMITS_SQL}, set_config('synchronous_commit', 'off', true)"
ROWS_AT_ONCE = 5_000
ROWS_PER_STATEMENT = 200  # of a projection: a millisecond of a CPU


class Row(NamedTuple):
    """A row that is shown."""

    period: int
    user_id: str
    key: int
    reached_seq: int


class Raced(Exception):  # noqa: N818  names what happened
    """Another process has moved the position, or the board is gone."""


def events_between(cursor: CursorWrapper, before: int, last: int) -> list[LogEvent]:
    """The events after `before` up to `last` of known kinds."""
    cursor.execute(EVENTS_SQL, [REWARDER_PREFIX, before, last, KNOWN_KINDS])
    return [LogEvent(*row) for row in cursor.fetchall()]


def positions(cursor: CursorWrapper, log: str) -> dict[int, int]:
    """By board; none of a board that has not been built."""
    cursor.execute(POSITIONS_SQL, [log])
    return dict(cursor.fetchall())


def project(log: Log, slice_: Slice, *, rest_s: float = 0.0) -> bool:
    """Move the standings of the slice's boards; returns `False`, with nothing done, if they were not before it.

    It rests for `rest_s` after each statement of `ROWS_PER_STATEMENT` rows, and lets others have the machine.
    """
    ids = [board.id for board in slice_.boards]
    try:
        with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
            cursor.execute(PROJECTION_SQL)  # a process that stops here keeps its locks for a second, not for ever
            cursor.execute(ADVANCE_SQL, [slice_.last, log.name, ids, slice_.before])
            if cursor.rowcount != len(ids):
                raise Raced
            for part in slice_.parts:
                _move(cursor, part, rest_s)
            if slice_.derived:
                for board in slice_.boards:
                    _derive_again(cursor, board, slice_.derived, slice_.last)
    except Raced:
        return False
    return True


def _move(cursor: CursorWrapper, part: Part, rest_s: float) -> None:
    # In order, as the moves are: neighbours are adjacent in the index, and two transactions lock them in one order.
    boards = sorted(part.boards)
    users_at_once = max(1, ROWS_PER_STATEMENT // len(boards))
    for start in range(0, len(part.moves), users_at_once):
        some = part.moves[start : start + users_at_once]
        cursor.execute(
            MOVES[part.fold],
            [
                [board.id for board, _ in boards],
                [period for _, period in boards],
                [board.is_first for board, _ in boards],
                [move.user_id for move in some],
                [move.key for move in some],
                [move.seq for move in some],
            ],
        )
        time.sleep(rest_s)


def _derive_again(cursor: CursorWrapper, board: Rules, users: Sequence[str], last: int) -> None:
    cursor.execute(FORGET_SQL, [list(users), board.id, last])
    derive(cursor, board, last=last, users=users, into=INSERT_SQL)


def unbuilt(cursor: CursorWrapper, log: str) -> list[int]:
    """The boards to build, the oldest first."""
    cursor.execute(UNBUILT_SQL, [log])
    return [board for (board,) in cursor.fetchall()]


def build(log: Log, board: Rules, *, tell: Callable[[int, int], object] = lambda done, of: None) -> int:
    """Fill the standings of a board from the whole log, while writes go on; returns the event they are at then.

    `tell` hears, now and then, how many of how many statements are done; it must not wait. Raises `Raced` if another
    process does so at the same time, or the board is deleted meanwhile.
    """
    try:
        with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute(LIMITS_SQL)
            cursor.execute("SET LOCAL work_mem = '128MB'")  # for the hash of a million users; once, not for each client
            cursor.execute("SELECT seq FROM leaderboards WHERE name = %s", [log.name])
            (seq,) = cursor.fetchone()
            if board.id not in unbuilt(cursor, log.name):
                raise Raced
            tell(0, 1)
            cursor.execute("DELETE FROM standings WHERE board_id = %s", [board.id])
            derive_in_slices(cursor, board, last=seq, into=INSERT_SQL, tell=tell)
            cursor.execute(BUILT_SQL, [board.id, log.name, seq])
    except IntegrityError as error:  # the key of a row; or that of the board, which is looked at last
        raise Raced from error
    except OperationalError as error:
        if isinstance(error.__cause__, SerializationFailure):
            raise Raced from error
        raise
    return int(seq)


@contextmanager
def rows_of(log: Log, board: int, *, from_period: int) -> Generator[tuple[int, Iterable[Row]], None, None]:
    """The position of a board, and its rows that are shown, from one period on, as of that position, streamed.

    Raises `Raced` if the board has no position.
    """
    with log.snapshot(), log.connection.cursor() as cursor:
        cursor.execute(f"{POSITIONS_SQL} AND board_id = %s", [log.name, board])
        found = cursor.fetchone()
        if found is None:
            raise Raced
        rows = BoardStanding.objects.using(log.alias).filter(board_id=board, period__gte=from_period, hidden=False)
        columns = rows.order_by("period").values_list("period", "user_id", "key", "reached_seq")
        stream = cast("Generator[tuple[int, str, int, int], None, None]", columns.iterator(chunk_size=ROWS_AT_ONCE))
        try:
            yield found[1], (Row(*row) for row in stream)
        finally:
            stream.close()  # here, as in a rebuild of the default board: see `Copy`
