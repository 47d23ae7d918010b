"""Clients that cost little, since they share the machine with what they measure: bytes in, bytes out, on an event loop."""

from __future__ import annotations

import asyncio
import os
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import cast

SCORE = re.compile(rb'"newScore":(\d+)')
PROBE = "probe"
PROBE_SCORE = re.compile(rb'"userId":"probe","score":(\d+)')


def request(
    method: str,
    path: str,
    port: int,
    *,
    token: str = "",
    body: bytes = b"",
    headers: Mapping[str, str] = {},
) -> bytes:
    """An HTTP/1.1 request, whole."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Caller(asyncio.Protocol):
    """One kept connection that asks one thing after the other, and hands each whole answer to `answered`."""

    def __init__(self, answered: Callable[[Caller, bytes], None]) -> None:
        self._answered = answered
        self._received = b""
        self.asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, asked_at: float | None = None) -> None:
        """Send `request`; `asked_at` is when it should have been, if that was earlier."""
        self.asked_at = time.perf_counter() if asked_at is None else asked_at
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        _, named, length = head.lower().partition(b"content-length:")
        if named and len(body) < int(length.split(b"\r\n", 1)[0]):
            return
        answer, self._received = self._received, b""
        self._answered(self, answer)


async def connect(port: int, answered: Callable[[Caller, bytes], None]) -> Caller:
    _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(answered), "127.0.0.1", port)
    return caller


class Watcher(asyncio.Protocol):
    """A socket that counts its frames and notes when it saw which score of the probe."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._received = b""
        self._open = False
        self.closed = asyncio.get_running_loop().create_future()
        self.first_frame: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.frames = 0
        self.sights: list[tuple[float, int]] = []  # when, and the probe's score

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        headers["Sec-WebSocket-Key"] = b64encode(os.urandom(16)).decode()
        self.transport.write(request("GET", "/ws/leaderboard/", self._port, headers=headers))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(time.perf_counter())

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        if not self._open:
            head, end, received = received.partition(b"\r\n\r\n")
            if not end:
                self._received = head
                return
            assert b" 101 " in head, head
            self._open = True
        # RFC 6455, section 5.2; from a server frames are not masked.
        while len(received) >= 2:
            opcode, length, start = received[0] & 15, received[1], 2
            if length == 126:
                if len(received) < 4:
                    break
                length, start = int.from_bytes(received[2:4], "big"), 4
            if len(received) < start + length:
                break
            payload, received = received[start : start + length], received[start + length :]
            if opcode == 1:
                self._see(payload)
            elif opcode == 9:
                mask = os.urandom(4)
                masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
                self.transport.write(bytes([0x8A, 0x80 | len(payload)]) + mask + masked)
        self._received = received

    def _see(self, payload: bytes) -> None:
        now = time.perf_counter()
        self.frames += 1
        if self.frames == 1:
            self.first_frame.set_result(now)
        if found := PROBE_SCORE.search(payload):
            self.sights.append((now, int(found[1])))


async def watch(port: int) -> Watcher:
    _, watcher = await asyncio.get_running_loop().create_connection(lambda: Watcher(port), "127.0.0.1", port)
    return watcher


async def watch_many(port: int, number: int, *, at_once: int = 200) -> list[Watcher]:
    """Open `number` sockets, `at_once` at a time, and return when each has its first frame."""
    watchers: list[Watcher] = []
    while len(watchers) < number:
        wave = await asyncio.gather(*(watch(port) for _ in range(min(at_once, number - len(watchers)))))
        await asyncio.gather(*(watcher.first_frame for watcher in wave))
        watchers += wave
    return watchers
