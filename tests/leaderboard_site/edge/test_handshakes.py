"""A handshake in a crowd: whoever counts it may have too much to do, or may take too long."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from limits import RateLimitItemPerMinute

from leaderboard_site.asgi_types import Receive, Scope, Send
from leaderboard_site.edge.handshakes import HandshakeLimit
from scores.access.limiter import Verdict, judge
from scores.access.sliding_window import Hit
from scores.stores.batcher import Batcher

SCOPE = {"type": "websocket", "client": ("192.0.2.1", 1), "extensions": {"websocket.http.response": {}}}


async def opened(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})


async def never() -> Mapping[str, Any]:
    raise AssertionError("nothing is awaited of the client")


@pytest.mark.writes_nothing
@pytest.mark.parametrize("most", [0, 10], ids=["too much to do", "too slow"])
async def test_a_handshake_that_cannot_be_counted_is_told_to_try_again(most: int, board: None, settings: Any) -> None:
    settings.HANDSHAKE_RATE_LIMIT = RateLimitItemPerMinute(100)
    given_up = threading.Event()

    def judge_late(hits: Sequence[Hit]) -> list[Verdict]:
        given_up.wait(30)
        return judge(hits)

    judges: Batcher[Hit, Verdict] = Batcher("crowded", judge_late, max_batch=1, max_queued=most, timeout_s=0.1)
    sent: list[Mapping[str, Any]] = []

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await HandshakeLimit(opened, judges)(SCOPE, never, send)
    given_up.set()
    judges.close()

    start, body = sent
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["code"] == "unavailable"
