"""One board made anew from the log: its standings in PostgreSQL, then its copy in Redis."""

from __future__ import annotations

from django.db import transaction

from scores.log.head import Log
from scores.log.head import log as default_log

from .copies import BoardCopies, board_copies

FORGET_SQL = "DELETE FROM board_positions WHERE board_id = %s AND log = %s"


def rebuild(board: int, *, log: Log = default_log, copies: BoardCopies = board_copies) -> None:
    """Have the follower build the board again; until it has, reads of the board are refused as `board_building`.

    Raises `CopyUnusable` if its copy stays in Redis: then its standings are built anew, and the copy is not.
    """
    with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
        cursor.execute(FORGET_SQL, [board, log.name])
    # Only now: a board that has a position is brought back to Redis from the standings that there are.
    origin = log.head().origin
    copies.leave(origin, board, copies.state(origin))
