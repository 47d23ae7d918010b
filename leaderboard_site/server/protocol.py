"""uvicorn's protocols, with what they lack.

HTTP: an answer leaves as one write, and an end for those who do not finish their sentence. WebSocket: a short way for
ready-made frames, ends for those who do not read or talk too much, and a slow goodbye.
"""

from __future__ import annotations

import asyncio
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable
from itertools import count
from typing import Any, cast

from asgiref.typing import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from realtime import metrics
from realtime.socket_writer import FRAMES

HEAD_S = 5.0  # for the head of a request, a handshake's too; a half one costs its sender nothing
MAX_HEAD_BYTES = 64 * 1024

READS_NOTHING_S = 30.0
# Nothing that a client says is for us. A pong now and then, a message of a library that wants to be sure.
MAX_FRAMES = 10
IN_S = 1.0
TOO_MANY_FRAMES = 4429
BITE = 512  # bytes looked at between two looks at whether that was too much; a frame has 6 at least
LINGER_S = 1.0  # for a close frame to be read; data that nobody took would else turn it into a reset
# A restart closes every socket of the process, and each client that hears of it comes back: in waves of this size.
CLOSED_AT_ONCE = 200
BETWEEN_CLOSINGS_S = 0.05

_utf8 = getincrementaldecoder("utf-8")
_closings = count()  # of this process, which ends after them
MAX_HELD = 64 * 1024  # bytes


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
        if len(self._held) > MAX_HELD:  # of a long answer, whose writer looks at how much is waiting
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


class HttpProtocol(HttpToolsProtocol):
    """Joins writes, and cuts a connection whose next head has begun, or is the first, and does not end in time or in size."""

    _head: asyncio.TimerHandle | None = None  # while one is awaited
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:  # the usual: a request is being answered
            self._head_is_there()
        elif not self.transport.is_closing() and self.transport.get_protocol() is self:
            if self._head is None:
                self._await_head()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"The head of a request has at most {MAX_HEAD_BYTES} bytes.")

    def handle_websocket_upgrade(self) -> None:
        self._head_is_there()
        self.transport = cast("JoinedWrites", self.transport).transport
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # as uvicorn does at the end of a connection, which this is for us

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head = self.loop.call_later(HEAD_S, self.transport.close)

    def _head_is_there(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class SocketProtocol(WebSocketsSansIOProtocol):
    """Waits for no peer, and hands nothing to the application but that a socket opened and that it ended."""

    # `transport.close()` waits until the peer has taken what is in the buffer, which this peer may never do.
    _stuck: asyncio.TimerHandle | None = None
    _heard = 0  # frames, since
    _heard_since = 0.0  # by the loop's clock
    _text: IncrementalDecoder | None = None  # while a text is coming
    _deaf = False
    _told: Callable[[bool], None] | None = None

    def handle_connect(self, event: Request) -> None:
        self.close_timeout = LINGER_S  # for the client's answer to a close frame of ours
        super().handle_connect(event)
        if not self.close_sent:  # the handshake was one; the application begins in a later turn of the loop
            self.scope["extensions"][FRAMES] = {"write": self.transport.write, "watch": self.watch}

    # What comes in

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), BITE):
            if not self._deaf:
                super().data_received(data[start : start + BITE])

    def handle_text(self, event: Frame) -> None:
        self._text = _utf8()
        self.handle_cont(event)

    def handle_bytes(self, event: Frame) -> None:
        self._text = None
        self.handle_cont(event)

    def handle_cont(self, event: Frame) -> None:
        """Drop it, past the queue to the application. RFC 6455, section 8.1, still wants bad texts told."""
        if not self._is_patient() or self._text is None:
            return
        try:
            self._text.decode(bytes(event.data), event.fin)
        except UnicodeDecodeError:
            if self._is_open:
                self._end(1007, "")

    def handle_ping(self) -> None:
        if self._is_patient():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._is_patient():
            super().handle_pong(event)

    def _is_patient(self) -> bool:
        """Whether the client may have said this as well; else its socket ends."""
        if self._deaf:
            return False
        now = self.loop.time()
        if now - self._heard_since > IN_S:
            self._heard, self._heard_since = 0, now
        self._heard += 1
        if self._heard > MAX_FRAMES and self._is_open:
            metrics.talkers_closed.inc()
            self._end(TOO_MANY_FRAMES, f"more than {MAX_FRAMES} frames in a second")
        return not self._deaf

    def _end(self, code: int, reason: str) -> None:
        self.conn.send_close(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Say the close frame that is due, listen to nothing more, and be gone in a moment."""
        self._deaf = True
        if self.conn.close_sent is not None:
            code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._tell()
        self.transport.pause_reading()
        # uvicorn leaves the connection open for as long as this timer is set.
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    # What goes out

    def watch(self, told: Callable[[bool], None]) -> None:
        """Have `told` now, and whenever it changes, whether frames may be written to the transport as they are."""
        self._told = told
        self._tell()

    def _tell(self) -> None:
        """No data may follow a close frame, so each method that sends one calls this when it has."""
        if self._told is not None:
            self._told(self._stuck is None and self._is_open)

    @property
    def _is_open(self) -> bool:
        """Whether there was no close frame, of either side.

        uvicorn's own `close_sent` stays false when the client closes and when the server ends. It then relies on
        `transport.close()`, after which a transport still takes data until its buffer is empty. And a close frame counts
        as soon as the bytes with it are here, so before the frames in front of it are looked at.
        """
        return self.conn.state is State.OPEN

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._tell()

    async def send(self, message: ASGISendEvent) -> None:  # type: ignore[override]  # uvicorn has types of its own
        await super().send(message)  # type: ignore[arg-type]
        if message["type"] == "websocket.close":
            self._tell()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(READS_NOTHING_S, self._give_up)
        self._tell()

    def _give_up(self) -> None:
        metrics.slow_closes.inc()
        self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._free()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._free()
        super().connection_lost(exc)
        if self._told is not None:
            self._told(False)  # without a close frame, perhaps
            self._told = None
        # What holds each other would wait for a full collection, which is rare here (`lifespan`): 20 KiB for each socket
        # that there ever was. A test counts what is left.
        self.conn.parser = self.conn.reader = None  # type: ignore[assignment]
        self.scope = {}  # type: ignore[typeddict-item]  # holds `watch`

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._tell()
        self.loop.call_later(1.0, self.transport.abort)  # a moment for the close frame, if there is anybody

    def shutdown(self) -> None:
        wave = next(_closings) // CLOSED_AT_ONCE
        self.loop.call_later(wave * BETWEEN_CLOSINGS_S, self._shut_down)

    def _shut_down(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()
            self._tell()

    def _free(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
