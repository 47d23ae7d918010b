"""One slot per socket: a slow one misses frames, and never holds them."""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.typing import WebSocketSendEvent

from realtime.outlet import Outlet


def event(text: str) -> WebSocketSendEvent:
    return {"type": "websocket.send", "bytes": None, "text": text}


class Line:
    """A socket that takes an event whenever `room` is set."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.taken: list[Any] = []
        self.broken = False

    async def send(self, event: Any) -> None:
        await self.room.wait()
        if self.broken:
            raise ConnectionResetError
        self.taken.append(event["text"])
        await asyncio.sleep(0)  # a bare yield, as some servers do


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_free_line_takes_each_event_in_order() -> None:
    line = Line()
    line.room.set()
    outlet = Outlet(line.send)

    for text in "abc":
        outlet.offer(event(text))
        await settle()

    assert line.taken == ["a", "b", "c"]


async def test_a_full_line_gets_the_newest_when_it_is_free_again() -> None:
    line = Line()
    outlet = Outlet(line.send)
    for text in "abcd":
        outlet.offer(event(text))
    await settle()
    assert line.taken == []

    line.room.set()
    await settle()

    assert line.taken == ["a", "d"]


async def test_a_broken_line_ends_it_quietly() -> None:
    line = Line()
    line.broken = True
    outlet = Outlet(line.send)
    outlet.offer(event("a"))

    line.room.set()
    await settle()

    assert outlet.closed
    outlet.offer(event("b"))
    assert line.taken == []


async def test_nothing_is_written_after_its_end() -> None:
    line = Line()
    outlet = Outlet(line.send)
    outlet.offer(event("a"))
    outlet.offer(event("b"))

    outlet.close()
    line.room.set()
    await settle()

    assert line.taken == []
