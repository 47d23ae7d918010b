"""uvicorn's protocols, with additions.

HTTP: a response leaves in one write, and a head that does not arrive in time ends the connection. WebSocket: direct
writes of ready-made frames, an end for clients that do not read or that send too much, closes in waves at shutdown.
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

HEAD_S = 5.0  # for the head of a request or a handshake: a client can send half a head at no cost
MAX_HEAD_BYTES = 64 * 1024

READS_NOTHING_S = 30.0
# Messages of clients mean nothing here. Allowed are pongs and the keepalive messages of a client library.
MAX_FRAMES = 10
COUNTED_S = 1.0  # in which MAX_FRAMES may come
TOO_MANY_FRAMES = 4429
CHUNK_BYTES = 512  # of input parsed before the next check for too many frames; a frame has at least 6 bytes
LINGER_S = 1.0  # for the client to read a close frame; unread input would otherwise turn the close into a reset
# A restart closes every socket of the process, and each client reconnects: in waves of this size.
CLOSED_AT_ONCE = 200
BETWEEN_CLOSINGS_S = 0.05

_utf8 = getincrementaldecoder("utf-8")
_closings = count()  # the sockets that this process has closed on shutdown
MAX_HELD = 64 * 1024  # bytes


class JoinedWrites:
    """A transport that joins all writes of one turn of the event loop into one.

    uvicorn writes the head and the body of a response separately, and uvloop sends each at once: a system call is 12 of
    the 90 microseconds of a read.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held += data
        if len(self._held) > MAX_HELD:  # part of a long response, whose writer checks how much waits in the transport
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
    """Joins writes, and closes a connection whose first head, or a later head once begun, is too slow or too large."""

    _head: asyncio.TimerHandle | None = None  # set while a head is awaited
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:  # the usual case: a request is being answered
            self._end_wait_for_head()
        elif not self.transport.is_closing() and self.transport.get_protocol() is self:
            if self._head is None:
                self._await_head()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"The head of a request may have at most {MAX_HEAD_BYTES} bytes.")

    def handle_websocket_upgrade(self) -> None:
        self._end_wait_for_head()
        self.transport = cast("JoinedWrites", self.transport).transport
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # as uvicorn does when this protocol ends

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait_for_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head = self.loop.call_later(HEAD_S, self.transport.close)

    def _end_wait_for_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class SocketProtocol(WebSocketsSansIOProtocol):
    """Never waits for a client, and reports only the opening and the end of a socket to the application."""

    # Set while the client reads nothing. `transport.close()` would wait for it to read the buffer, maybe for ever.
    _read_timeout: asyncio.TimerHandle | None = None
    _frame_count = 0  # frames of the client since `_counted_since`
    _counted_since = 0.0  # in the loop's clock
    _text: IncrementalDecoder | None = None  # set while a text arrives
    _ignores_input = False
    _report: Callable[[bool], None] | None = None

    def handle_connect(self, event: Request) -> None:
        self.close_timeout = LINGER_S  # for the client's reply to a close frame of this server
        super().handle_connect(event)
        if not self.close_sent:  # the handshake was valid; the application starts in a later turn of the loop
            self.scope["extensions"][FRAMES] = {"write": self.transport.write, "watch": self.watch}

    # What comes in

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            if not self._ignores_input:
                super().data_received(data[start : start + CHUNK_BYTES])

    def handle_text(self, event: Frame) -> None:
        self._text = _utf8()
        self.handle_cont(event)

    def handle_bytes(self, event: Frame) -> None:
        self._text = None
        self.handle_cont(event)

    def handle_cont(self, event: Frame) -> None:
        """Drops the frame; the application never gets it. Invalid UTF-8 ends the socket (RFC 6455, section 8.1)."""
        if not self._admits_frame() or self._text is None:
            return
        try:
            self._text.decode(bytes(event.data), event.fin)
        except UnicodeDecodeError:
            if self._is_open:
                self._end(1007, "")

    def handle_ping(self) -> None:
        if self._admits_frame():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._admits_frame():
            super().handle_pong(event)

    def _admits_frame(self) -> bool:
        """Whether the client may send one more frame; if not, its socket ends."""
        if self._ignores_input:
            return False
        now = self.loop.time()
        if now - self._counted_since > COUNTED_S:
            self._frame_count, self._counted_since = 0, now
        self._frame_count += 1
        if self._frame_count > MAX_FRAMES and self._is_open:
            metrics.talkers_closed.inc()
            self._end(TOO_MANY_FRAMES, f"more than {MAX_FRAMES} frames in a second")
        return not self._ignores_input

    def _end(self, code: int, reason: str) -> None:
        self.conn.send_close(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Sends the close frame that is due, ignores all further input, and cuts the connection after `LINGER_S`."""
        self._ignores_input = True
        if self.conn.close_sent is not None:
            code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._report_clear()
        self.transport.pause_reading()
        # uvicorn leaves the connection open for as long as this timer is set.
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    # What goes out

    def watch(self, report: Callable[[bool], None]) -> None:
        """Calls `report` now, and on each change, with whether frames may be written to the transport."""
        self._report = report
        self._report_clear()

    def _report_clear(self) -> None:
        """No data may follow a close frame, so each method that sends one calls this afterwards."""
        if self._report is not None:
            self._report(self._read_timeout is None and self._is_open)

    @property
    def _is_open(self) -> bool:
        """Whether neither side has sent a close frame.

        uvicorn's own `close_sent` stays false when the client closes and when the server ends. It then relies on
        `transport.close()`, after which a transport still accepts data until its buffer is empty. A close frame counts
        as soon as its bytes have arrived, so before the frames in front of it are handled.
        """
        return self.conn.state is State.OPEN

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._report_clear()

    async def send(self, message: ASGISendEvent) -> None:  # type: ignore[override]  # uvicorn has its own types
        await super().send(message)  # type: ignore[arg-type]
        if message["type"] == "websocket.close":
            self._report_clear()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timeout = self.loop.call_later(READS_NOTHING_S, self._cut)
        self._report_clear()

    def _cut(self) -> None:
        metrics.slow_closes.inc()
        self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_read_timeout()
        self._report_clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_read_timeout()
        super().connection_lost(exc)
        if self._report is not None:
            self._report(False)  # the connection may end without a close frame
            self._report = None
        # Reference cycles would wait for a full collection, which is rare here (`lifespan`): 20 KiB for each socket
        # that was ever open. A test counts what is left.
        self.conn.parser = self.conn.reader = None  # type: ignore[assignment]
        self.scope = {}  # type: ignore[typeddict-item]  # it holds `watch`

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._report_clear()
        self.loop.call_later(1.0, self.transport.abort)  # time for a client, if it is alive, to read the close frame

    def shutdown(self) -> None:
        wave = next(_closings) // CLOSED_AT_ONCE
        self.loop.call_later(wave * BETWEEN_CLOSINGS_S, self._shut_down)

    def _shut_down(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()
            self._report_clear()

    def _cancel_read_timeout(self) -> None:
        if self._read_timeout is not None:
            self._read_timeout.cancel()
            self._read_timeout = None
