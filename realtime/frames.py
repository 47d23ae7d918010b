"""The wire contract of the socket; docs/protocol.md says the same in prose, and a test holds the two together."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Literal, NotRequired, TypedDict

from asgiref.typing import WebSocketSendEvent
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

from scores.selectors import Page


class Entry(TypedDict):
    userId: str
    score: int


class LeaderboardUpdate(TypedDict):
    """The whole top 10, best first; never a delta, so a lost frame is healed by the next."""

    type: Literal["leaderboard_update"]
    leaderboard: list[Entry]
    epoch: str  # which log `seq` counts in: of another epoch, nothing can be said about before and after
    seq: int  # the event this is the state after; on one socket it never goes back
    age: NotRequired[int]  # whole seconds for which newer events could not be asked for; absent while they can


# One text, for every socket there is, as the bytes of RFC 6455: made once instead of per socket. Valid where no extension
# (permessage-deflate) was agreed on, which is everywhere here.
Frame = bytes


STALE_S = 2.0  # the usual is a quarter of a second


def is_stale(page: Page) -> bool:
    return page.age_s > STALE_S


def prepared(text: str) -> Frame:
    """RFC 6455, section 5.2: a whole text in one frame, unmasked, as from a server."""
    return WireFrame(Opcode.TEXT, text.encode()).serialize(mask=False)


@lru_cache(maxsize=4)
def event_of(frame: Frame) -> WebSocketSendEvent:
    """What a `prepared` frame is to an ASGI server that makes its own."""
    length = frame[1]  # or it says how many bytes the length has
    head = 2 if length < 126 else 4 if length == 126 else 10
    return {"type": "websocket.send", "bytes": None, "text": frame[head:].decode()}


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
