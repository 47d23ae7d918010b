"""What the admin shows of boards besides their definitions: periods, positions in both stores, who stands where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from django.contrib.admin.views.main import ChangeList
from django.db import connection
from django.http import HttpRequest

from scores.board_selectors import score_of
from scores.boards import reads
from scores.boards.copies import Building, board_copies
from scores.boards.reads import BoardAnswer, BoardEntry, BoardPageQuestion
from scores.exceptions import CopyUnusable
from scores.log.head import log
from scores.models import Board, BoardStanding
from scores.spreadsheet import escape_formula

from .export import chunked
from .readonly import NOTHING

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

TOP = 50
PERIODS_PER_PAGE = 20
MAX_COUNTED = 10_000  # members of each period on the list of them
CSV_HEADER = ["rank", "position", "user_id", "score"]
# The newest period that has begun; without one, the first that will.
CURRENT_SQL = """
    SELECT b.id, p.number, p.starts_at, p.ends_at, p.first_seq, p.last_seq FROM unnest(%s::int[]) AS b (id)
    CROSS JOIN LATERAL (
        SELECT * FROM periods WHERE board_id = b.id
        ORDER BY first_seq IS NULL, CASE WHEN first_seq IS NULL THEN number ELSE -number END LIMIT 1
    ) AS p
"""
PERIODS_SQL = """
    SELECT p.number, p.starts_at, p.ends_at, p.first_seq, p.last_seq, p.closed_at, (
        SELECT count(*) FROM (
            SELECT FROM standings s WHERE s.board_id = p.board_id AND s.period = p.number AND NOT s.hidden LIMIT %(most)s
        ) AS members
    )
    FROM periods p WHERE p.board_id = %(board)s AND p.number < %(before)s ORDER BY p.number DESC LIMIT %(limit)s
"""


class Current(NamedTuple):
    number: int
    starts_at: datetime | None
    ends_at: datetime | None
    first_seq: int | None
    last_seq: int | None


class Facts(NamedTuple):
    """Positions are seqs; without one, the board is not in that store. `is_redis_up` if Redis answered."""

    current: Current | None
    head: int
    standings: int | None
    copy: int | None
    is_redis_up: bool
    building: Building | None  # only of a board without standings

    @property
    def in_postgresql(self) -> str:
        if self.standings is not None:
            return self._told(self.standings)
        return "being built" if self.building is None else f"being built, {self.building.percent} %"

    @property
    def in_redis(self) -> str:
        if not self.is_redis_up:
            return "no answer"
        return NOTHING if self.copy is None else self._told(self.copy)

    def _told(self, seq: int) -> str:
        behind = max(0, self.head - seq)
        return f"{seq:,}, {behind:,} behind" if behind else f"{seq:,}"


class ListedPeriod(NamedTuple):
    number: int
    starts_at: datetime | None
    ends_at: datetime | None
    first_seq: int | None
    last_seq: int | None
    closed_at: datetime | None
    counted: int  # members, at most `MAX_COUNTED`

    @property
    def members(self) -> str:
        return f"{self.counted:,}" if self.counted < MAX_COUNTED else f"{MAX_COUNTED:,} or more"


class Row(NamedTuple):
    entry: BoardEntry
    score: int


if TYPE_CHECKING:

    class Shown(TypedDict):
        facts: Facts

    ShownBoard = WithAnnotations[Board, Shown]


class Boards(ChangeList):
    """A page of boards with their facts."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        boards: list[ShownBoard] = list(self.result_list)
        facts = facts_of([board.id for board in boards])
        for board in boards:
            board.facts = facts[board.id]
        self.result_list = boards


def facts_of(boards: Sequence[int]) -> dict[int, Facts]:
    """Those of each board, by as many queries as for one."""
    head = log.head()
    with connection.cursor() as cursor:
        cursor.execute(CURRENT_SQL, [list(boards)])
        current = {board: Current(*columns) for board, *columns in cursor.fetchall()}
        standings = reads.positions(cursor, log.name, boards)
    copies: dict[int, int] = {}
    building: Building | None = None
    is_up = True
    try:
        if not set(boards) <= standings.keys():
            building = board_copies.building()
        copies = {board: copied.seq for board, copied in board_copies.state(head.origin).boards.items()}
    except CopyUnusable:
        is_up = False
    of_board = {building.board: building} if building and building.board not in standings else {}
    return {
        board: Facts(current.get(board), head.seq, standings.get(board), copies.get(board), is_up, of_board.get(board))
        for board in boards
    }


def periods_of(board: int, before: int) -> list[ListedPeriod]:
    """The newest before this number, also those that have not begun."""
    with connection.cursor() as cursor:
        cursor.execute(PERIODS_SQL, {"board": board, "before": before, "limit": PERIODS_PER_PAGE, "most": MAX_COUNTED})
        return [ListedPeriod(*row) for row in cursor.fetchall()]


def top_of(board: Board, period: int) -> tuple[BoardAnswer, list[Row]] | None:
    """The first of a period as of the board's standings; `None` while they are being built."""
    with log.snapshot(), log.connection.cursor() as cursor:
        seq = reads.positions(cursor, log.name, [board.id]).get(board.id)
        if seq is None:
            return None
        answer = reads.answer(cursor, BoardPageQuestion(board.id, period, TOP, 0), seq)
    return answer, [Row(entry, score_of(board, entry)) for entry in answer.entries]


def csv_of(board: Board, period: int) -> Iterator[str]:
    """The lines of the file with everybody who stands in a period."""
    standings = BoardStanding.objects.filter(board_id=board.id, period=period, hidden=False)
    ordered = standings.order_by("-board_id", "-period", "-key", "-tie", "-user_id")  # the index, backwards
    return chunked(CSV_HEADER, ordered.values_list("user_id", "key"), lambda rows: _lines(board, rows))


def _lines(board: Board, rows: Iterable[tuple[str, int]]) -> Iterator[list[Any]]:
    rank, before = 0, None
    for position, (user_id, key) in enumerate(rows, 1):
        if key != before:
            rank, before = position, key
        yield [rank, position, escape_formula(user_id), -key if board.order == Board.Order.LOWER else key]
