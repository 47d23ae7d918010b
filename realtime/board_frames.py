"""The frames of boards beside the default one. docs/protocol.md describes them in prose, and a test compares the two."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Literal, NotRequired, TypedDict

from scores.board_selectors import BoardTop

from .frames import STALE_S


class BoardFrameEntry(TypedDict):
    rank: int
    userId: str
    score: int


class BoardUpdate(TypedDict):
    """The top 10 of the board's current period, or of the newest if there is none, best first. Never a delta."""

    type: Literal["board_update"]
    board: str
    period: int
    startsAt: str | None  # ISO 8601, in UTC
    endsAt: str | None
    isCurrent: bool  # whether the period has begun and not ended
    at: str  # the server's clock, so that a client can tell how long the period lasts still
    leaderboard: list[BoardFrameEntry]
    epoch: str  # the log that `seq` counts in
    seq: int  # the board is as of this event; on one socket it never goes back within a board
    age: NotRequired[int]  # whole seconds since newer events could last be looked for; absent while they can


def board_update(top: BoardTop) -> str:
    """The text of a frame."""
    frame: BoardUpdate = {
        "type": "board_update",
        "board": top.board,
        "period": top.period.number,
        "startsAt": text_of(top.period.starts_at),
        "endsAt": text_of(top.period.ends_at),
        "isCurrent": top.period.is_current,
        "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "leaderboard": [{"rank": rank, "userId": user_id, "score": score} for rank, user_id, score in top.entries],
        "epoch": top.epoch,
        "seq": top.seq,
    }
    if top.age_s > STALE_S:
        frame["age"] = int(top.age_s)
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))


def text_of(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
