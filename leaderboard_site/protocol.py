"""uvicorn's WebSocket protocol, with an end for those who do not read and a slow goodbye."""

from __future__ import annotations

import asyncio
from itertools import count

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

READS_NOTHING_S = 30.0
# A restart closes every socket of the process, and each client that hears of it comes back: in waves of this size.
CLOSED_AT_ONCE = 200
BETWEEN_CLOSINGS_S = 0.05

_closings = count()  # of this process, which ends after them


class SocketProtocol(WebSocketsSansIOProtocol):
    """What it adds: `transport.close()` waits until the peer has taken what is in the buffer, which this peer may never do."""

    _stuck: asyncio.TimerHandle | None = None

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
