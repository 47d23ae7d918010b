"""uvicorn's protocols, with what they lack.

HTTP: an answer leaves as one write. WebSocket: a short way for ready-made frames, an end for those who do not read, and a
slow goodbye.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from realtime.outlet import FRAMES

READS_NOTHING_S = 30.0
# A restart closes every socket of the process, and each client that hears of it comes back: in waves of this size.
CLOSED_AT_ONCE = 200
BETWEEN_CLOSINGS_S = 0.05

_closings = count()  # of this process, which ends after them
MOST_HELD = 64 * 1024  # bytes


class JoinedWrites:
    """A transport on which what is written in one turn of the event loop leaves as one.

    uvicorn writes an answer's head and its body one by one, and uvloop sends each at once: a system call is 12 of the 90
    microseconds of a read.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held += data
        if len(self._held) > MOST_HELD:  # of a long answer, whose writer looks at how much is waiting
            self._flush()

    def close(self) -> None:
        self._flush()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held:
            self.transport.write(held)


class AnswerProtocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its base
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))

    def handle_websocket_upgrade(self) -> None:
        self.transport = cast("JoinedWrites", self.transport).transport
        super().handle_websocket_upgrade()


class SocketProtocol(WebSocketsSansIOProtocol):
    """What it adds: `transport.close()` waits until the peer has taken what is in the buffer, which this peer may never do."""

    _stuck: asyncio.TimerHandle | None = None

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:  # the handshake was one; the application begins in a later turn of the loop
            self.scope["extensions"][FRAMES] = {"write": self.write_frame}

    def write_frame(self, frame: bytes) -> bool:
        """Write a frame as it is; `False`, and nothing is written, while the client has to take what it was sent before."""
        if self._stuck is not None or self.close_sent or not self.handshake_complete:
            return False
        self.transport.write(frame)
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(READS_NOTHING_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._free()

    def connection_lost(self, exc: Exception | None) -> None:
        self._free()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(1.0, self.transport.abort)  # a moment for the close frame, if there is anybody

    def shutdown(self) -> None:
        wave = next(_closings) // CLOSED_AT_ONCE
        self.loop.call_later(wave * BETWEEN_CLOSINGS_S, self._shut_down)

    def _shut_down(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def _free(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
