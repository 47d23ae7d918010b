"""uvicorn's HTTP protocol, with additions: a response leaves in one write, and a client that does not behave is refused.

What is refused, and for how long a client may hold a connection, is in docs/adr/0027.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from . import metrics
from .connection import LINGER_S, READS_NOTHING_S, Connection, unmapped
from .socket_protocol import SocketProtocol

MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED = 64  # requests of a connection that wait; each holds a few KiB, and 256 KiB of input may have 10,000
MAX_HELD = 64 * 1024  # bytes
KEY_CHARS = 24  # of 16 bytes in Base64
VERSIONS = ("1.1", "1.0")
HURRY_S = 5.0  # instead of READS_NOTHING_S once the server ends: less than it waits for requests

TOO_LARGE = f"The head of a request may have at most {MAX_HEAD_BYTES} bytes."
TOO_MANY = f"At most {MAX_PIPELINED} requests of a connection may wait for their answers."
MALFORMED = "This is not an HTTP request that the server understands."
NO_SUCH_VERSION = "The server speaks HTTP/1.1 and HTTP/1.0."
HOST = "A request of HTTP/1.1 has exactly one Host header."
NO_TUNNELS = "The server is no proxy."
BODY = "A request to upgrade to a WebSocket has no body, and nothing may follow it before the answer."
NOT_YET = "A request to upgrade to a WebSocket must wait until earlier requests of its connection are answered."
VERSION_AND_KEY = "A request to upgrade to a WebSocket has version 13, and a key of 16 bytes in Base64."
LONG_HANDSHAKE = (
    f"A request to upgrade to a WebSocket may have at most {MAX_NUM_HEADERS} headers of {MAX_LINE_LENGTH} bytes."
)


# What the parser itself says of `HTTP/3.0`, and of the preface of HTTP/2. It lets `HTTP/2.0` and `HTTP/0.9` pass.
OF_VERSIONS = ("Invalid HTTP version", "Pause on PRI/Upgrade")


class Refusal(Exception):  # noqa: N818  ends the parsing
    """Raised in a callback of the parser, which raises an error of its own from it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status, self.detail = status, detail


class JoinedWrites(Connection):
    """A connection that joins all writes of one turn of the event loop into one.

    uvicorn writes the head and the body of a response separately, and uvloop sends each at once: a system call is 12 of
    the 90 microseconds of a read.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport, loop, READS_NOTHING_S)
        self._held = b""

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held += data
        if len(self._held) > MAX_HELD:  # part of a long response, whose writer checks how much waits in the transport
            self.flush()

    def close(self) -> None:
        self.flush()
        super().close()

    def flush(self) -> None:
        held, self._held = self._held, b""
        # After a reset, uvicorn goes on with the requests that waited, and uvloop has an exception for each write.
        if held and not self.transport.is_closing():
            self.transport.write(held)


class HttpProtocol(HttpToolsProtocol):
    """Answers in order, refuses what is malformed, too long or too slow, and stops reading while nobody reads."""

    # Bytes of input since the last complete head or piece of a body: of a head, of trailers, or of nothing at all.
    _loose_bytes = 0
    _refusal: bytes | None = None  # set from then on, and all further input is ignored; empty once it is written
    _is_half_closed = False  # the client sends no more, and may still read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._connection = JoinedWrites(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._connection))
        self.client = unmapped(self.client)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost()
        super().connection_lost(exc)
        self.pipeline.clear()  # requests that waited; each holds this protocol, which holds the last of them

    def shutdown(self) -> None:
        super().shutdown()
        self._connection.hurry(HURRY_S)

    # What comes in

    def data_received(self, data: bytes) -> None:
        self._loose_bytes += len(data)
        if self._loose_bytes > MAX_HEAD_BYTES:
            return self._feed_in_parts(data)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        rest: bytes | None = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            refusal = refusal_of(error)
            return self._refuse(refusal.status, refusal.detail)
        if rest is not None:  # outside of the `except`: what is raised within has its own context for `refusal_of`
            return self._upgrade(rest)
        if self._is_answering:
            self._connection.head_came()
        elif not self.transport.is_closing():
            self._await_head()
        if not self._loose_bytes and self.scope is not self.cycle.scope:  # another head begins behind a request
            self._loose_bytes = len(data.rpartition(b"\r\n\r\n")[2])

    def _feed_in_parts(self, data: bytes) -> None:
        """So that not one byte more than MAX_HEAD_BYTES gets in."""
        room = MAX_HEAD_BYTES + len(data) - self._loose_bytes
        self._loose_bytes -= len(data)
        if not room:
            return self._refuse(431, TOO_LARGE)
        self.data_received(data[:room])
        self.data_received(data[room:])

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as asyncio.Protocol has it
        """Keeps the connection for the answers to what came whole before the client's end, and no longer."""
        if self.scheme == "https":
            return None  # a transport with TLS ends with its client
        if self._is_half_closed:
            return True  # whoever resumes reading finds the same end again
        self._is_half_closed = True
        if self._refusal:  # it still waits for the answers before it
            return True
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or (cycle.more_body and not self.pipeline):
            self._connection.close()
            return True
        if cycle.more_body:
            self.pipeline.popleft()  # a request that will never be whole; those before it get their answers
        else:
            cycle.keep_alive = False
        self._ignore_input(b"")
        return True

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # of the newest request
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        self._connection.await_head(self._connection.close)

    def on_headers_complete(self) -> None:
        self._loose_bytes = 0
        if self.parser.get_http_version() not in VERSIONS:
            raise Refusal(505, NO_SUCH_VERSION)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Refusal(400, TOO_MANY)
        super().on_headers_complete()
        # Fields behind a chunked body must not become headers of a request that has begun, such as X-Forwarded-For.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:
            self._loose_bytes = 0
        super().on_body(body)

    # Upgrades

    def _should_upgrade(self) -> bool:
        """uvicorn asks this of a request with `Upgrade`, and begins no response if it is so: `_upgrade` decides."""
        return True

    def _upgrade(self, rest: bytes) -> None:
        """Handles a head with `Upgrade`, or of CONNECT, behind which the parser stops: it takes a body for `rest`."""
        fields = cast("list[tuple[bytes, bytes]]", self.scope["headers"])
        headers = dict(fields)
        asked = [part.strip().lower() for name, value in fields if name == b"upgrade" for part in value.split(b",")]
        is_socket = b"websocket" in asked and self.scope["http_version"] == "1.1"
        if self.scope["method"] == "CONNECT":
            self._refuse(501, NO_TUNNELS)
        elif not is_socket:
            self._serve_without_upgrade(rest)
        elif rest or b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip(b"0"):
            self._refuse(400, BODY)
        elif [name for name, _ in fields].count(b"host") != 1:  # the library does not look
            self._refuse(400, HOST)
        elif self._is_answering:
            self._refuse(400, NOT_YET)
        # The library would refuse the next two as well. It takes two to four times as long, most of that for a protocol
        # that nobody will use, and a thousand at once delay everybody.
        elif len(fields) > MAX_NUM_HEADERS or any(len(b"%b: %b\r\n" % field) > MAX_LINE_LENGTH for field in fields):
            self._refuse(431, LONG_HANDSHAKE)
        elif (
            headers.get(b"sec-websocket-version", b"").strip() != b"13"
            or len(headers.get(b"sec-websocket-key", b"").strip()) != KEY_CHARS
        ):
            self._refuse(400, VERSION_AND_KEY)
        else:
            if len(asked) > 1:  # the server may choose (RFC 9110, section 7.8); the library knows no lists
                fields[:] = [*(field for field in fields if field[0] != b"upgrade"), (b"upgrade", b"websocket")]
            self.handle_websocket_upgrade()

    def _serve_without_upgrade(self, rest: bytes) -> None:
        """A server may ignore an upgrade (RFC 9110, section 7.8): Java's own client asks for one in each request."""
        head = [f"{self.scope['method']} ".encode(), self.url, f" HTTP/{self.scope['http_version']}\r\n".encode()]
        for name, value in self.scope["headers"]:
            if name != b"upgrade":
                head += [name, b":", value, b"\r\n"]  # without a blank: no head may become longer than it was
        self.parser = httptools.HttpRequestParser(self)  # the old one reads no more of a connection that closes
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def handle_websocket_upgrade(self) -> None:
        self._connection.flush()
        connection = Connection(self._connection.transport, self.loop, LINGER_S)
        connection.head_due = self._connection.head_due
        self._connection.head_came()
        self.transport = cast("asyncio.Transport", connection)
        self._ignore_input(b"")
        super().handle_websocket_upgrade()
        if self.flow.write_paused:  # by an answer that is not read; the transport says it once
            cast("SocketProtocol", connection.get_protocol()).pause_writing()
        self._connection.was_read()
        self.parser = None  # type: ignore[assignment]  # as uvicorn does when this protocol ends

    # Refusals

    def _refuse(self, status: int, detail: str) -> None:
        """Answers with `status` once the answers before it are given, then ends the connection. Ignores all input."""
        if self._refusal is not None:
            if self._refusal:  # it waits, and uvicorn has resumed the reading for an earlier request
                self.flow.pause_reading()
            return
        metrics.requests_refused.labels(str(status)).inc()
        self._connection.head_came()
        answer = [STATUS_LINE[status], b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"]
        answer += [name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers]
        self._ignore_input(b"".join([*answer, f"content-length: {len(detail)}\r\n\r\n{detail}".encode()]))
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.more_body:  # it is the body of a request that is wrong
            if self.pipeline:
                self.pipeline.popleft()  # the request itself; those before it get their answers first
                return self.flow.pause_reading()
            cycle.disconnected = True
            if cycle.response_started:  # too late for another one
                return self._connection.close()
        elif self._is_answering:
            return self.flow.pause_reading()
        self._end_with_refusal()

    def _ignore_input(self, refusal: bytes) -> None:
        self._refusal = refusal
        self._loose_bytes = MAX_HEAD_BYTES

    def _end_with_refusal(self) -> None:
        """The end of a connection whose input is ignored."""
        assert self._refusal is not None
        self._connection.write(self._refusal)
        self._refusal = b""
        if self._is_half_closed:
            return self._connection.close()
        self._connection.flush()
        # A close would reset the connection if there is unread input, and the client would not see the answer.
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self._connection.close)

    # What goes out

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._loose_bytes and not self.transport.is_closing():
            if self._refusal is not None:
                self._end_with_refusal()
            else:
                self._await_head()  # a head has begun while the response was under way

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()
        self._connection.expect_reading(self._connection.patience_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._connection.was_read()
        if not self.pipeline:
            self.flow.resume_reading()


def refusal_of(error: httptools.HttpParserError) -> Refusal:
    """Why the parsing ended: what a callback raised, or what the parser found."""
    if isinstance(error.__context__, Refusal):
        return error.__context__
    return Refusal(505, NO_SUCH_VERSION) if str(error) in OF_VERSIONS else Refusal(400, MALFORMED)
