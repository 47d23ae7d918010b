"""The frames of the socket. docs/protocol.md describes them in prose, and a test compares the two."""

from __future__ import annotations

import json
from typing import Literal, NotRequired, TypedDict

from scores.selectors import Page


class FrameEntry(TypedDict):
    userId: str
    score: int


class LeaderboardUpdate(TypedDict):
    """The whole top 10, best first. Never a delta, so the next frame makes up for a lost one."""

    type: Literal["leaderboard_update"]
    leaderboard: list[FrameEntry]
    epoch: str  # the log that `seq` counts in; seqs of two epochs cannot be compared
    seq: int  # the board is as of this event; on one socket it never goes back
    age: NotRequired[int]  # whole seconds since newer events could last be looked for; absent while they can


STALE_S = 2.0  # usually, an age is at most a quarter of a second


def is_stale(page: Page) -> bool:
    return page.age_s > STALE_S


def leaderboard_update(page: Page) -> str:
    """The text of a frame."""
    frame: LeaderboardUpdate = {
        "type": "leaderboard_update",
        "leaderboard": [{"userId": entry.user_id, "score": entry.score} for entry in page.entries],
        "epoch": page.epoch,
        "seq": page.seq,
    }
    if is_stale(page):
        frame["age"] = int(page.age_s)
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
