"""The boards that there are, each with the period that is under way."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from scores.log.head import Log
from scores.models import Board, Period


class Current(NamedTuple):
    """The period of a board that is under way. An archived board has none."""

    number: int
    starts_at: datetime | None
    ends_at: datetime | None


class Listed(NamedTuple):
    """A board, and its period that is under way; `None` between seasons."""

    board: Board
    current: Current | None


def public(log: Log) -> list[Listed]:
    """The public boards, by name. Two queries, whatever their number."""
    boards = list(Board.objects.using(log.alias).filter(is_public=True).order_by("name"))
    periods = Period.objects.using(log.alias).exclude(first_seq=None).filter(last_seq=None, board__is_public=True)
    columns = periods.values_list("board_id", "number", "starts_at", "ends_at")
    current = {board_id: Current(number, starts_at, ends_at) for board_id, number, starts_at, ends_at in columns}
    return [Listed(board, current.get(board.id)) for board in boards]
