"""Questions about boards, and their answers from the standings in PostgreSQL, for when the copy cannot be used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db.backends.utils import CursorWrapper

from scores.user_id import is_storable


class BoardPageQuestion(NamedTuple):
    """Consecutive rows of a period of a board."""

    board: int
    period: int
    limit: int
    offset: int


class BoardPlaceQuestion(NamedTuple):
    """Where one user is in a period of a board; and with which event they got there, which only the standings know."""

    board: int
    period: int
    user_id: str
    with_event: bool = False


class ReachedWith(NamedTuple):
    """The event with which a user reached their score, and its metadata, which is JSON."""

    seq: int
    metadata: str | None


BoardQuestion = BoardPageQuestion | BoardPlaceQuestion


class BoardEntry(NamedTuple):
    """A row of a board. `rank` is shared by equal scores (1, 1, 3); `position` is not: who is ahead among equals counts.

    `key` orders the board, the largest first: the score, negated where lower is better.
    """

    rank: int
    position: int
    user_id: str
    key: int


class BoardAnswer(NamedTuple):
    """The entries that were asked for, as of event `seq`, which is the board's position; `members` are in the period."""

    seq: int
    members: int
    entries: list[BoardEntry]  # of a place: one, or none
    reached_with: ReachedWith | None = None


POSITIONS_SQL = "SELECT board_id, seq FROM board_positions WHERE log = %s AND board_id = ANY(%s)"
OF_PERIOD_SQL = "board_id = %(board)s AND period = %(period)s AND NOT hidden"
MEMBERS_SQL = f"SELECT count(*) FROM standings WHERE {OF_PERIOD_SQL}"  # noqa: S608  constants
PAGE_SQL = f"""
    SELECT user_id, key FROM standings WHERE {OF_PERIOD_SQL}
    ORDER BY board_id DESC, period DESC, key DESC, tie DESC, user_id DESC LIMIT %(limit)s OFFSET %(offset)s
"""  # noqa: S608
PLACE_SQL = f"SELECT key, tie FROM standings WHERE {OF_PERIOD_SQL} AND user_id = %(user)s"  # noqa: S608
REACHED_SQL = """
    SELECT s.reached_seq, e.metadata FROM standings s LEFT JOIN score_events e ON e.seq = s.reached_seq
    WHERE s.board_id = %(board)s AND s.period = %(period)s AND s.user_id = %(user)s
"""
HIGHER_SQL = f"SELECT count(*) FROM standings WHERE {OF_PERIOD_SQL} AND key > %(key)s"  # noqa: S608
AHEAD_SQL = f"""
    SELECT count(*) FROM standings
    WHERE {OF_PERIOD_SQL} AND key = %(key)s AND (tie, user_id) > (%(tie)s, %(user)s)
"""  # noqa: S608


def positions(cursor: CursorWrapper, log: str, boards: Iterable[int]) -> dict[int, int]:
    """The positions of those boards whose standings have been built."""
    cursor.execute(POSITIONS_SQL, [log, sorted(set(boards))])
    return dict(cursor.fetchall())


def answer(cursor: CursorWrapper, question: BoardQuestion, seq: int) -> BoardAnswer:
    """The answer from the standings, which are at event `seq`. Within the snapshot that the position was read in."""
    of_period = {"board": question.board, "period": question.period}
    cursor.execute(MEMBERS_SQL, of_period)
    (members,) = cursor.fetchone()
    if isinstance(question, BoardPageQuestion):
        return BoardAnswer(seq, members, _page(cursor, question))
    entries = _place(cursor, question)
    reached_with = _reached_with(cursor, question) if entries and question.with_event else None
    return BoardAnswer(seq, members, entries, reached_with)


def _page(cursor: CursorWrapper, question: BoardPageQuestion) -> list[BoardEntry]:
    cursor.execute(PAGE_SQL, question._asdict())
    rows = cursor.fetchall()
    rank = 1
    if rows and question.offset:
        cursor.execute(HIGHER_SQL, question._asdict() | {"key": rows[0][1]})
        rank += cursor.fetchone()[0]
    return placed(rows, rank=rank, offset=question.offset)


def _place(cursor: CursorWrapper, question: BoardPlaceQuestion) -> list[BoardEntry]:
    if not is_storable(question.user_id):  # PostgreSQL refuses NUL
        return []
    parameters: dict[str, Any] = {"board": question.board, "period": question.period, "user": question.user_id}
    cursor.execute(PLACE_SQL, parameters)
    row = cursor.fetchone()
    if row is None:
        return []
    key, tie = row
    cursor.execute(HIGHER_SQL, parameters | {"key": key})
    (higher,) = cursor.fetchone()
    cursor.execute(AHEAD_SQL, parameters | {"key": key, "tie": tie})
    (ahead,) = cursor.fetchone()
    return [BoardEntry(1 + higher, 1 + higher + ahead, question.user_id, key)]


def _reached_with(cursor: CursorWrapper, question: BoardPlaceQuestion) -> ReachedWith:
    parameters: dict[str, Any] = {"board": question.board, "period": question.period, "user": question.user_id}
    cursor.execute(REACHED_SQL, parameters)
    return ReachedWith(*cursor.fetchone())


def placed(rows: Iterable[tuple[str, int]], *, rank: int, offset: int) -> list[BoardEntry]:
    """Entries of consecutive rows (user id and key), given the rank of the first; equal keys share a rank."""
    entries: list[BoardEntry] = []
    for position, (user_id, key) in enumerate(rows, start=offset + 1):
        if entries and key != entries[-1].key:
            rank = position
        entries.append(BoardEntry(rank, position, user_id, key))
    return entries
