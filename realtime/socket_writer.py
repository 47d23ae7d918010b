"""The way to one socket: a single slot, so that a client that does not read delays no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asgiref.typing import ASGISendCallable, WebSocketScope

from . import metrics
from .frame_bytes import Frame, event_of

# The ASGI extension of a server that takes ready-made frames:
# {"write": frame -> None, "watch": (is_clear -> None) -> None}. `watch` reports at once, and on each change, whether
# `write` may be used: it may while the client takes what it is sent and the socket is not about to close.
FRAMES = "leaderboard.frames"


class SocketWriter:
    """Writes frames to a socket and never makes its caller wait.

    `offer(frame)` writes a frame now, or as soon as the socket takes more, unless a newer one comes first. While the
    server's `write` may be used, `offer` is that `write`, with no Python between the hub and the system call. Otherwise
    a task sends the frame, and while the task waits for a slow client, only the newest frame is kept.
    """

    __slots__ = ("_is_clear", "_newest", "_send", "_sending", "_write", "closed", "offer")

    def __init__(self, scope: WebSocketScope, send: ASGISendCallable) -> None:
        self._send = send
        self._sending: asyncio.Task[None] | None = (
            None  # keeps the task alive: the event loop has only a weak reference
        )
        self._newest: Frame | None = None
        self._is_clear = self.closed = False
        self._write: Callable[[Frame], object] | None = None
        self.offer: Callable[[Frame], object] = self._hold
        extensions: Any = scope.get("extensions") or {}
        if FRAMES in extensions:
            self._write = extensions[FRAMES]["write"]
            extensions[FRAMES]["watch"](self._clear)

    def close(self) -> None:
        """Drops a waiting frame. Nothing is written from now on."""
        self.closed = True
        self._newest = None
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
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
                metrics.frames_dropped.inc()  # the frame that this one replaces
            self._newest = frame
            return
        self._sending = asyncio.get_running_loop().create_task(self._deliver(frame))

    async def _deliver(self, frame: Frame | None) -> None:
        """Sends `frame`, then the newest frame that arrived during the send, until none waits."""
        try:
            while frame is not None:
                await self._send(event_of(frame))
                frame, self._newest = self._newest, None
        except Exception:  # the socket is closed; the server reports that to the consumer
            self.closed, self._newest = True, None
        self._sending = None
        self._choose()


def _drop(frame: Frame) -> None:
    """The `offer` of a closed writer. A bound method would make the writer refer to itself."""
