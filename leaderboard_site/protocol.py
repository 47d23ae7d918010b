"""uvicorn's WebSocket protocol, with a short way for ready-made frames, an end for those who do not read, a slow goodbye."""

from __future__ import annotations

import asyncio
from itertools import count

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from realtime.outlet import FRAMES

READS_NOTHING_S = 30.0
# A restart closes every socket of the process, and each client that hears of it comes back: in waves of this size.
CLOSED_AT_ONCE = 200
BETWEEN_CLOSINGS_S = 0.05

_closings = count()  # of this process, which ends after them


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
