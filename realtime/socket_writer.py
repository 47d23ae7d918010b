"""One socket's way out: a single slot, so that a client that does not read costs nobody anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from asgiref.typing import ASGISendCallable, WebSocketScope

from . import metrics
from .frame_bytes import Frame, event_of

# The ASGI extension of a server that takes frames ready-made:
# {"write": frame -> None, "watch": (is_clear -> None) -> None}, which tells at once, and whenever it changes, whether
# `write` may be used: the client takes what it is sent, and the socket is not about to close.
FRAMES = "leaderboard.frames"


class SocketWriter:
    """Writes frames to a socket without a task of its own and without ever waiting.

    `offer(frame)` writes a frame now, or as soon as the socket takes more, unless a newer one comes first. While the
    server's own way is clear, `offer` is that way itself, with no Python between the hub and the system call. Else `send`
    is stepped by hand: in the usual case it ends at once, for 4 µs less than a task per frame. When it suspends, the client
    is slow; it is resumed by whatever it waits for, and meanwhile only the newest frame is kept.
    """

    __slots__ = ("_is_clear", "_newest", "_send", "_sending", "_write", "closed", "offer")

    def __init__(self, scope: WebSocketScope, send: ASGISendCallable) -> None:
        self._send = send
        self._sending: Generator[Any, None, None] | None = None
        self._newest: Frame | None = None
        self._is_clear = self.closed = False
        self._write: Callable[[Frame], object] | None = None
        self.offer: Callable[[Frame], object] = self._hold
        extensions: Any = scope.get("extensions") or {}
        if FRAMES in extensions:
            self._write = extensions[FRAMES]["write"]
            extensions[FRAMES]["watch"](self._clear)

    def close(self) -> None:
        """Drop what waits; nothing is written from now on."""
        self.closed = True
        self._newest = None
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.close()
        self._choose()

    def _clear(self, is_clear: bool) -> None:
        self._is_clear = is_clear
        self._choose()

    def _choose(self) -> None:
        if self.closed:
            self.offer = _drop
        elif self._write is not None and self._is_clear and self._sending is None:
            self.offer = self._write
        else:
            self.offer = self._hold

    def _hold(self, frame: Frame) -> None:
        if self._sending is not None:
            if self._newest is not None:
                metrics.frames_dropped.inc()  # for the one in its place
            self._newest = frame
            return
        self._sending = self._send(event_of(frame)).__await__()
        self._step()

    def _step(self, _: Any = None) -> None:
        while self._sending is not None:
            try:
                waits_for = self._sending.send(None)
            except StopIteration:
                frame, self._newest = self._newest, None
                self._sending = None if frame is None else self._send(event_of(frame)).__await__()
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
        self._choose()


def _drop(frame: Frame) -> None:
    """The way of a closed outlet, which must not hold itself by a method of its own."""
