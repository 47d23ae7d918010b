"""Requests at the edge of HTTP: answered or refused, and never a mistake of ours."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import httpx
import pytest

from tests.conftest import TokenFor
from tests.leaderboard_site.server.lines import Line, get
from tools.chaos.abuse import LARGE_FILE, memory_of
from tools.servers import Server

BODY = b'{"points": 10}'
ODD: dict[str, tuple[int, list[bytes], bytes]] = {
    "an expectation": (200, [b"Expect: 100-continue", b"Content-Length: 14"], BODY),
    "an expectation of something else": (200, [b"Expect: the-unexpected", b"Content-Length: 14"], BODY),
    "chunks with extensions": (200, [b"Transfer-Encoding: chunked"], b"e;a=b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks with a trailer": (200, [b"Transfer-Encoding: chunked"], b"e\r\n" + BODY + b"\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "chunks without a length": (400, [b"Transfer-Encoding: chunked"], b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks of less than nothing": (400, [b"Transfer-Encoding: chunked"], b"-1\r\n\r\n0\r\n\r\n"),
    "chunks and a length": (
        400,
        [b"Transfer-Encoding: chunked", b"Content-Length: 14"],
        b"e\r\n" + BODY + b"\r\n0\r\n\r\n",
    ),
    "an encoding beside chunks": (400, [b"Transfer-Encoding: gzip, chunked"], b"e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "an encoding before chunks": (
        400,
        [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
        b"e\r\n" + BODY + b"\r\n0\r\n\r\n",
    ),
    "chunks in capitals": (200, [b"Transfer-Encoding: Chunked"], b"e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks of chunks": (400, [b"Transfer-Encoding: chunked, chunked"], b"e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "an encoding that is none": (400, [b"Transfer-Encoding: gzip"], BODY),
    "two lengths": (400, [b"Content-Length: 14", b"Content-Length: 15"], BODY),
    "a length of less than nothing": (400, [b"Content-Length: -1"], BODY),
    "a length in words": (400, [b"Content-Length: fourteen"], BODY),
    "a length beyond counting": (400, [b"Content-Length: " + b"9" * 5_000], BODY),
    "no body": (400, [], b""),
    "a compressed body": (415, [b"Content-Encoding: gzip", b"Content-Length: 4"], b"\x1f\x8b\x08\x00"),
    "a body that is not compressed": (200, [b"Content-Encoding: identity", b"Content-Length: 14"], BODY),
    "a header that is no ASCII": (200, ["X-Name: Zoë".encode(), b"X-Odd: \xff", b"Content-Length: 14"], BODY),
    "three thousand headers": (200, [b"X-%d: 1" % number for number in range(3_000)] + [b"Content-Length: 14"], BODY),
    "two types": (415, [b"Content-Type: text/plain", b"Content-Length: 14"], BODY),
    "two hosts": (400, [b"Host: evil.example.org", b"Content-Length: 14"], BODY),
}


NOT_BY_DAPHNE = ("a length beyond counting", "three thousand headers")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.uvicorn("hangs up on it")] if n in NOT_BY_DAPHNE else ()) for n in ODD],
)
def test_an_odd_request_is_no_mistake_of_ours(name: str, server: Server, token_for: TokenFor) -> None:
    expected, headers, body = ODD[name]
    usual = [
        b"Host: 127.0.0.1",
        b"Content-Type: application/json",
        f"Authorization: Bearer {token_for('ann')}".encode(),
    ]

    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall(b"\r\n".join([b"POST /api/v1/scores/increment HTTP/1.1", *usual, *headers, b"", body]))
        with line.makefile("rb") as answers:
            status = int(answers.readline().split()[1])
            while status == 100:
                answers.readline()
                status = int(answers.readline().split()[1])

    assert status == expected


@pytest.mark.uvicorn("has a parser of its own")
@pytest.mark.writes_nothing
def test_an_encoding_that_nobody_knows_is_refused_at_every_address(server: Server) -> None:
    answers = {}
    for path in ("/api/v1/leaderboard", "/api/v1/leaderboard?limit=3", "/api/v1/users/ann", "/"):
        with Line(server) as line:
            line.say(get(path, "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n")
            answers[path] = line.statuses()

    assert list(answers.values()) == [[400]] * 4


ADDRESSES = (
    "/",
    "/admin/login/",
    "/api/docs/",
    "/api/v1/auth/token",
    "/api/v1/leaderboard",
    "/api/v1/me",
    "/healthz",
    "/healthz/deep",
    "/healthz/live",
    "/metrics",
    "/nothing",
    "/static/leaderboard/page.css",
    "/ws/leaderboard/",
)


@pytest.mark.uvicorn("has a parser of its own")
@pytest.mark.parametrize("hosts", [0, 2])
@pytest.mark.writes_nothing
def test_a_request_names_one_host_at_every_address(hosts: int, server: Server) -> None:
    """RFC 9112, section 3.2. Two could be read as one by a proxy and as the other by the service."""
    answers = {}
    for path in ADDRESSES:
        with Line(server) as line:
            head = [f"GET {path} HTTP/1.1", "Connection: close", *["Host: 127.0.0.1"] * hosts, "", ""]
            line.say("\r\n".join(head).encode())
            answers[path] = line.everything()

    assert {path: answer[:12] for path, answer in answers.items()} == dict.fromkeys(ADDRESSES, b"HTTP/1.1 400")
    assert all(b"exactly one Host header" in answer for answer in answers.values())


@pytest.mark.uvicorn("hangs up on it")
def test_what_a_long_head_held_is_free_after_the_answer(server: Server) -> None:
    """Neither remembered by its address or host, nor left to the garbage collector, which comes rarely (`lifespan`)."""
    before = memory_of(server.process.pid)
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for number in range(120):
            long = f"{number}{'x' * 60_000}"
            assert client.post(f"/api/v1/users/{long}/scores/increment").status_code == 401
            assert client.get(f"/api/v1/users/{long}").status_code == 404
            assert client.get("/api/v1/leaderboard", headers={"Host": long}).status_code == 400

    assert memory_of(server.process.pid) - before < 12


@pytest.mark.uvicorn("reads no second request")
@pytest.mark.writes_nothing
def test_what_a_page_held_is_free_after_the_answer(server: Server) -> None:
    before = memory_of(server.process.pid)
    with ExitStack() as lines:
        asked = [lines.enter_context(Line(server, room=2**16)) for _ in range(40)]
        for line in asked:
            line.say(get(LARGE_FILE) * 19 + get(LARGE_FILE, "Connection: close"))
        for line in asked:
            assert line.statuses() == [200] * 20

    assert memory_of(server.process.pid) - before < 40  # the files have 220 MB
