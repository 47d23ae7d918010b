"""Hubs that have a new frame in every turn of the event loop, for servers that tests start. They read no board."""

from __future__ import annotations

import asyncio
import signal

from realtime import board_hub, hub
from realtime.board_hub import BoardHub
from realtime.frame_bytes import Frame, prepared
from realtime.hub import Hub

_closing: list[asyncio.Future[None]] = []


def set_up() -> None:
    """Before the server starts. SIGUSR1 then closes all sockets with 4000."""
    hub.Hub._push = _push  # type: ignore[method-assign]
    board_hub.BoardHub._push = _push_boards  # type: ignore[method-assign]


def _frame(number: int) -> Frame:
    return prepared(str(number).zfill(100))


async def _push(self: Hub) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _close_all, self)
    number = 0
    while True:
        number += 1
        self._frame = _frame(number)
        await self._fan_out()
        await asyncio.sleep(0 if self._socket_writers else 0.01)


async def _push_boards(self: BoardHub) -> None:
    number = 0
    while self._watched:
        number += 1
        for watched in list(self._watched.values()):
            for socket_writer in tuple(watched.sockets):
                socket_writer.offer(_frame(number))
        await asyncio.sleep(0)


def _close_all(self: Hub) -> None:
    for socket_writer in self._socket_writers:
        closed = socket_writer._send({"type": "websocket.close", "code": 4000, "reason": ""})
        _closing.append(asyncio.ensure_future(closed))
    for watched in list(board_hub.board_hub._watched.values()):
        for watcher in list(watched.sockets.values()):
            watcher.end(4000, "")
