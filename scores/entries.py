"""Entries: changes that arrive many together, each with its own user, key and answer.

{"userId": "ada", "points": 10, "key": "match-7/ada"}
{"userId": "ada", "action": "quest_complete", "key": "quest-3/ada"}
{"userId": "ada", "board": "laps", "score": 83211, "metadata": {"car": "roadster"}, "key": "lap-9/ada"}
"""

from __future__ import annotations

import re
from typing import Any

from .award import INVALID_BODY, award, metadata_of, score_of
from .exceptions import BoardUnknown, Malformed
from .log.ledger import Change, Kind
from .models import BOARD_NAME
from .user_id import is_player_id

MAX_ENTRIES = 1_000  # of a request or a message
MAX_BYTES = 256 * 1024  # the same
FIELDS = frozenset(("userId", "points", "action", "board", "score", "metadata", "key"))
KEY = re.compile("[!-~]{1,255}")
BOARD = re.compile(BOARD_NAME)


def change_of(entry: Any, *, actor: str = "", token: str = "") -> Change:
    """The change that `entry` asks for, made by the service `actor`. Raises `Malformed` or `BoardUnknown`.

    An unknown field is refused: what is sent twice with `idempotencyKey` for `key` would count twice.
    """
    if isinstance(entry, Malformed):  # its line was no JSON
        raise entry
    if not isinstance(entry, dict):
        raise Malformed(INVALID_BODY, f"Invalid data. Expected a dictionary, but got {type(entry).__name__}.")
    if not entry.keys() <= FIELDS:
        name = min(entry.keys() - FIELDS)
        raise Malformed("unknown_field", f"An entry has no field {name[:64]!r}.", of=name[:64])
    user_id = entry.get("userId")
    if not is_player_id(user_id):
        raise Malformed("user_id_invalid", "This is not a valid id of a player.", of="userId")
    key = key_of(entry["key"]) if "key" in entry else None
    if "score" not in entry and "board" not in entry:
        if "metadata" in entry:
            raise Malformed("unknown_field", "Only a score has metadata.", of="metadata")
        points, action = award(entry)
        return Change(Kind.INCREMENT, user_id, points, key, actor, action=action, token=token)
    if "points" in entry or "action" in entry:
        raise Malformed("points_and_score", "Send points, an action, or a score for a board, and one of them only.")
    score, metadata = score_of(entry), metadata_of(entry)
    stream = _board_of(entry)
    return Change(Kind.SCORE, user_id, score, key, actor, token=token, stream=stream, metadata=metadata)


def key_of(value: Any) -> str:
    """An idempotency key: 1 to 255 visible ASCII characters. Raises `Malformed`."""
    if not isinstance(value, str) or not KEY.fullmatch(value):
        raise Malformed("idempotency_key_invalid", "An idempotency key has 1 to 255 visible ASCII characters.")
    return value


def _board_of(entry: dict[str, Any]) -> str:
    board = entry.get("board")
    if not isinstance(board, str):
        raise Malformed("board_required", "A score is for a board: its name is expected.", of="board")
    if not BOARD.fullmatch(board):
        raise BoardUnknown
    return board
