"""Bodies that are too long, never end or hardly move: cut early, and paid for by whoever sends them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tools.servers import Server

pytestmark = pytest.mark.writes_nothing

CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
INCREMENT = "/api/v1/scores/increment"
SIGN_IN = "/api/v1/auth/token"
ADMIN = "/admin/login/"  # a page of Django's own
MANY = 20  # at once
MAX_MEMORY = 24 * 1024 * 1024  # bytes for MANY such clients; what they send is fifty times as much


def memory(server: Server) -> int:
    """Bytes of the server's process that are in memory."""
    resident = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return resident * os.sysconf("SC_PAGE_SIZE")


def begin(server: Server, path: str, *headers: str) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers, "", ""]
    line.sendall("\r\n".join(head).encode())
    return line


def push(line: socket.socket, parts: Iterator[bytes]) -> int:
    """Send until the server hangs up, or all of it; how many bytes went out."""
    sent = 0
    try:
        for part in parts:
            line.sendall(part)
            sent += len(part)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return sent


def answer(line: socket.socket) -> tuple[int, bytes]:
    received = b""
    try:
        while part := line.recv(65_536):
            received += part
    except ConnectionError:
        pass
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


@pytest.mark.uvicorn("spools a body before it asks the application")
@pytest.mark.parametrize("path", [INCREMENT, SIGN_IN, ADMIN], ids=["score", "token", "admin"])
def test_sixty_megabytes_at_once_from_many_leave_the_memory_as_it_was(path: str, server: Server) -> None:
    before = memory(server)

    with ExitStack() as stack:
        lines = [
            stack.enter_context(begin(server, path, f"Content-Length: {60 * 2**20}", "Expect: nothing"))
            for _ in range(MANY)
        ]
        for line in lines:
            push(line, iter([b" " * 2**20] * 3))
        statuses = {answer(line)[0] for line in lines}

    assert statuses <= {413, 0}  # 0: the line was cut while we were still sending, and the answer with it
    assert memory(server) - before < MAX_MEMORY


@pytest.mark.uvicorn("spools a body before it asks the application")
@pytest.mark.parametrize("path", [INCREMENT, SIGN_IN, ADMIN], ids=["score", "token", "admin"])
def test_a_body_without_an_end_is_cut(path: str, server: Server) -> None:
    before = memory(server)

    with ExitStack() as stack:
        lines = [stack.enter_context(begin(server, path, "Transfer-Encoding: chunked")) for _ in range(MANY)]
        sent = [push(line, iter([CHUNK] * 960)) for line in lines]

    assert max(sent) < 60 * 2**20
    assert memory(server) - before < MAX_MEMORY
    assert httpx.get(f"{server.url}/healthz/live", verify=False).status_code == 200


@pytest.mark.uvicorn("spools a body before it asks the application")
def test_a_body_of_a_byte_a_second_is_cut_after_ten(server: Server) -> None:
    began = time.monotonic()
    with begin(server, INCREMENT, "Content-Length: 100") as line:
        line.settimeout(1.0)
        received = b""
        while not received and time.monotonic() - began < 60:
            line.sendall(b" ")
            try:
                received = line.recv(65_536)
            except TimeoutError:
                pass
        took = time.monotonic() - began

    assert b" 408 " in received.splitlines()[0]
    assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == "body_too_slow"
    assert took > 9
