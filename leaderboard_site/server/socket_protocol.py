"""uvicorn's WebSocket protocol, with additions: direct writes of ready-made frames, an end for clients that do not read
or that send too much, and closes in waves at shutdown.
"""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable
from itertools import count

from asgiref.typing import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from realtime.metrics import talkers_closed
from realtime.socket_writer import FRAMES

from . import metrics
from .connection import HEAD_S, LINGER_S, READS_NOTHING_S, Connection, unmapped

# Messages of clients mean nothing here. Allowed are pongs and the keepalive messages of a client library.
MAX_FRAMES = 10
COUNTED_S = 1.0  # in which MAX_FRAMES may come
TOO_MANY_FRAMES = 4429
MALFORMED = "The handshake is malformed.\n"
CHUNK_BYTES = 512  # of input parsed before the next check for too many frames; a frame has at least 6 bytes
# A restart closes every socket of the process, and each client reconnects: in waves of this size.
CLOSED_AT_ONCE = 200
BETWEEN_CLOSINGS_S = 0.05

_utf8 = getincrementaldecoder("utf-8")
_closings = count()  # the sockets that this process has closed on shutdown


class SocketProtocol(WebSocketsSansIOProtocol):
    """Never waits for a client, and reports only the opening and the end of a socket to the application."""

    transport: Connection  # type: ignore[assignment]
    _frame_count = 0  # frames of the client since `_counted_since`
    _counted_since = 0.0  # in the loop's clock
    _text: IncrementalDecoder | None = None  # set while a text arrives
    _ignores_input = False
    _report: Callable[[bool], None] | None = None

    def connection_made(self, transport: Connection) -> None:  # type: ignore[override]
        super().connection_made(transport)  # type: ignore[arg-type]
        self.client = unmapped(self.client)
        transport.await_head(self._give_up)

    def _give_up(self) -> None:
        """Refuses a handshake that the application has not answered in time."""
        if not self.handshake_complete:
            self._refuse(self.conn.reject(503, f"The socket did not open within {HEAD_S:g} s.\n").serialize(), 503)
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})

    def _refuse(self, answer: bytes, status: int) -> None:
        metrics.requests_refused.labels(str(status)).inc()
        self._ignores_input = self.handshake_complete = self.close_sent = True
        self.disconnected = True  # `send` then does what it does for a client that is gone
        self.transport.write(answer)
        self.transport.close()

    def handle_connect(self, event: Request) -> None:
        self.close_timeout = LINGER_S  # for the client's reply to a close frame of this server
        super().handle_connect(event)
        if self.close_sent:  # the library has refused it
            metrics.requests_refused.labels(str(self.response.status_code)).inc()
            return
        # The handshake was valid; the application starts in a later turn of the loop. A client must wait for its answer
        # (RFC 6455, section 4.1); a reply to a frame would go out before it.
        self.transport.pause_reading()
        self.scope["extensions"][FRAMES] = {"write": self.transport.write, "watch": self.watch}

    # What comes in

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            if not self._ignores_input:
                super().data_received(data[start : start + CHUNK_BYTES])
        if not (self.handshake_initiated or self._ignores_input):  # its head came whole, and the library cannot read it
            answer = b"".join(self.conn.data_to_send()) or self.conn.reject(400, MALFORMED).serialize()
            self._refuse(answer, int(answer.split(maxsplit=2)[1]))

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
            talkers_closed.inc()
            self._end(TOO_MANY_FRAMES, f"more than {MAX_FRAMES} frames in a second")
        return not self._ignores_input

    def _end(self, code: int, reason: str) -> None:
        self.conn.send_close(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Sends the close frame that is due, ignores all further input, and closes the connection after `LINGER_S`."""
        self._ignores_input = True
        if self.conn.close_sent is not None:
            code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._report_clear()
        self.transport.pause_reading()
        # uvicorn leaves the connection open for as long as this timer is set.
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)

    # What goes out

    def watch(self, report: Callable[[bool], None]) -> None:
        """Calls `report` now, and on each change, with whether frames may be written to the transport."""
        self._report = report
        self._report_clear()

    def _report_clear(self) -> None:
        """No data may follow a close frame, so each method that sends one calls this afterwards."""
        if self._report is not None:
            self._report(self.writable.is_set() and self._is_open)

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
        if message["type"] == "websocket.accept":
            self.transport.head_came()
            self.transport.resume_reading()
        elif message["type"] == "websocket.close":
            self._report_clear()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.expect_reading(READS_NOTHING_S)
        self._report_clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.transport.was_read()
        self._report_clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.lost()
        super().connection_lost(exc)
        if self._report is not None:
            self._report(False)  # the connection may end without a close frame
            self._report = None
        # Reference cycles would wait for a full collection, which is rare here (`lifespan`): 20 KiB for each socket
        # that was ever open. A test counts what is left.
        self.conn.parser = self.conn.reader = None  # type: ignore[assignment]
        self.conn.handshake_exc = None  # its traceback has the connection
        self.scope = {}  # type: ignore[typeddict-item]  # it holds `watch`

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._report_clear()

    def shutdown(self) -> None:
        wave = next(_closings) // CLOSED_AT_ONCE
        self.loop.call_later(wave * BETWEEN_CLOSINGS_S, self._shut_down)

    def _shut_down(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()
            self._report_clear()
