"""One socket's way out: a single slot, so that a client that does not read costs nobody anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from asgiref.typing import ASGISendCallable, WebSocketScope

from . import metrics

if TYPE_CHECKING:  # uvicorn loads its protocol, and so this, before there is a Django
    from .frames import Frame

FRAMES = "leaderboard.frames"  # the ASGI extension of a server that takes frames ready-made: {"write": frame -> bool}


class Outlet:
    """Writes frames to a socket without a task of its own and without ever waiting.

    The short way is the server's own, if it has one. Else `send` is stepped by hand: in the usual case it ends at once,
    for 4 µs less than a task per frame. When it suspends, the client is slow; it is resumed by whatever it waits for, and
    meanwhile only the newest frame is kept.
    """

    __slots__ = ("_newest", "_send", "_sending", "_write", "closed")

    def __init__(self, scope: WebSocketScope, send: ASGISendCallable) -> None:
        extensions: Any = scope.get("extensions") or {}
        self._write: Callable[[bytes], bool] | None = extensions.get(FRAMES, {}).get("write")
        self._send = send
        self._sending: Generator[Any, None, None] | None = None
        self._newest: Frame | None = None
        self.closed = False

    def offer(self, frame: Frame) -> None:
        """Write `frame` now, or as soon as the socket takes more, unless a newer one comes first."""
        if self.closed:
            return
        if self._sending is not None:
            if self._newest is not None:
                metrics.frames_dropped.inc()  # for the one in its place
            self._newest = frame
            return
        if self._write is not None and self._write(frame.wire):
            return
        self._sending = self._send(frame.event).__await__()
        self._step()

    def close(self) -> None:
        """Drop what waits; nothing is written from now on."""
        self.closed = True
        self._newest = None
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.close()

    def _step(self, _: Any = None) -> None:
        while self._sending is not None:
            try:
                waits_for = self._sending.send(None)
            except StopIteration:
                frame, self._newest = self._newest, None
                self._sending = None if frame is None else self._send(frame.event).__await__()
                continue
            except Exception:  # the socket is gone; its consumer hears of that by itself
                self._sending = None
                self.close()
                return
            # What asyncio.Task does with what a coroutine yields.
            if waits_for is None:
                asyncio.get_running_loop().call_soon(self._step)
            else:
                waits_for._asyncio_future_blocking = False
                waits_for.add_done_callback(self._step)
            return
