"""One slot per socket: a slow one misses frames, and never holds them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from realtime.frame_bytes import event_of, prepared
from realtime.socket_writer import FRAMES, SocketWriter


class Line:
    """A socket that takes a frame whenever `room` is set."""

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

    # The short way, of a server that has one.

    def write(self, frame: bytes) -> None:
        assert self.room.is_set(), "that way is not clear"
        self.taken.append(frame[2:].decode())

    def watch(self, told: Callable[[bool], None]) -> None:
        self.told = told
        told(self.room.is_set())

    def clear(self, is_clear: bool) -> None:
        self.room.set() if is_clear else self.room.clear()
        self.told(is_clear)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture(params=["short", "long"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def outlet_of(line: Line, way: str = "long") -> SocketWriter:
    extensions: Any = {FRAMES: {"write": line.write, "watch": line.watch}} if way == "short" else None
    scope: Any = {"type": "websocket", "extensions": extensions}
    return SocketWriter(scope, line.send)


async def test_a_free_line_takes_each_frame_in_order(way: str) -> None:
    line = Line()
    line.room.set()
    socket_writer = outlet_of(line, way)

    for text in "abc":
        socket_writer.offer(prepared(text))
        await settle()

    assert line.taken == ["a", "b", "c"]


async def test_a_full_line_gets_the_newest_when_it_is_free_again(way: str) -> None:
    line = Line()
    socket_writer = outlet_of(line, way)
    for text in "abcd":
        socket_writer.offer(prepared(text))
    await settle()
    assert line.taken == []

    line.room.set()
    await settle()

    assert line.taken == ["a", "d"]


async def test_what_waits_on_the_long_way_goes_before_what_takes_the_short_one() -> None:
    line = Line()
    socket_writer = outlet_of(line, "short")
    socket_writer.offer(prepared("a"))

    line.clear(True)
    socket_writer.offer(prepared("b"))
    await settle()
    socket_writer.offer(prepared("c"))
    line.clear(False)
    socket_writer.offer(prepared("d"))
    line.clear(True)
    await settle()

    assert line.taken == ["a", "b", "c", "d"]


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_frame_says_to_any_server_what_it_says_ready_made(length: int) -> None:
    text = "ä" * (length // 2) + "x" * (length % 2)

    assert event_of(prepared(text)) == {"type": "websocket.send", "bytes": None, "text": text}


async def test_a_broken_line_ends_it_quietly() -> None:
    line = Line()
    line.broken = True
    socket_writer = outlet_of(line)
    socket_writer.offer(prepared("a"))

    line.room.set()
    await settle()

    assert socket_writer.closed
    socket_writer.offer(prepared("b"))
    assert line.taken == []


async def test_nothing_is_written_after_its_end() -> None:
    line = Line()
    socket_writer = outlet_of(line)
    socket_writer.offer(prepared("a"))
    socket_writer.offer(prepared("b"))

    socket_writer.close()
    line.room.set()
    await settle()

    assert line.taken == []


@pytest.mark.parametrize("broken", [False, True], ids=["while it sends", "after a failure"])
async def test_a_writer_that_is_closed_needs_no_garbage_collection(broken: bool) -> None:
    line = Line()
    line.broken = broken
    socket_writer = outlet_of(line)
    socket_writer.offer(prepared("a"))
    await settle()
    if broken:
        line.room.set()
        await settle()
    gone = weakref.ref(line)

    gc.collect()
    gc.disable()
    try:
        socket_writer.close()
        await settle()
        del line, socket_writer
        assert gone() is None
    finally:
        gc.enable()
