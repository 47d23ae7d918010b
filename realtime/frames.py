"""The wire contract of the socket; docs/protocol.md says the same in prose, and a test holds the two together."""

from __future__ import annotations

import json
from typing import Literal, NotRequired, TypedDict

from scores.selectors import Page


class FrameEntry(TypedDict):
    userId: str
    score: int


class LeaderboardUpdate(TypedDict):
    """The whole top 10, best first; never a delta, so a lost frame is healed by the next."""

    type: Literal["leaderboard_update"]
    leaderboard: list[FrameEntry]
    epoch: str  # which log `seq` counts in: of another epoch, nothing can be said about before and after
    seq: int  # the event this is the state after; on one socket it never goes back
    age: NotRequired[int]  # whole seconds for which newer events could not be asked for; absent while they can


STALE_S = 2.0  # the usual is a quarter of a second


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
