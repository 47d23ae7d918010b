"""A line to the server without a library between it and the test: what is said, what comes, and whether it is cut."""

from __future__ import annotations

import re
import select
import socket
import time

from tools.servers import Server

SOCKET = "GET /ws/leaderboard/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
HANDSHAKE = (SOCKET + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n").encode()
PATIENCE_S = 30.0


class Line:
    def __init__(self, server: Server, *, room: int | None = None) -> None:
        """`room` is what the kernel keeps of what is not read, in bytes."""
        self._socket = socket.socket()
        if room is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(("127.0.0.1", server.port))

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, *parts: bytes) -> Line:
        for part in parts:
            self._socket.sendall(part)
        return self

    def takes(self, *, within_s: float) -> int:
        """How many bytes can be said in that time; no more than 256 MiB are tried."""
        deadline, taken = time.monotonic() + within_s, 0
        self._socket.setblocking(False)
        while time.monotonic() < deadline and taken < 2**28:
            try:
                taken += self._socket.send(b"x" * 2**16)
            except BlockingIOError:
                time.sleep(0.01)
        self._socket.settimeout(PATIENCE_S)
        return taken

    def end(self) -> Line:
        """Closes this half of it, as `nc -N` does: nothing more will be said."""
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def some(self, most: int = 65_536) -> bytes:
        return self._socket.recv(most)

    def everything(self) -> bytes:
        """What comes until the server ends the connection."""
        received = b""
        try:
            while part := self.some():
                received += part
        except ConnectionResetError:
            pass
        return received

    def statuses(self) -> list[int]:
        """Those of all answers until the server ends the connection."""
        return statuses_in(self.everything())

    def is_cut(self) -> bool:
        """Whether the server has reset it, which is seen without reading."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return bool(poll.poll(0))


def statuses_in(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def increment(token: str, *headers: str, body: bytes = b'{"points": 10}') -> bytes:
    head = ["POST /api/v1/scores/increment HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    return "\r\n".join([*head, f"Authorization: Bearer {token}", *headers, "", ""]).encode() + body
