"""What the server makes of bytes: each request gets its own answer, in order, and what is wrong ends the connection."""

from __future__ import annotations

import httpx
import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from leaderboard_site.server import http_protocol
from tests.conftest import TokenFor
from tools.servers import Server

from .lines import HANDSHAKE, SOCKET, Line, get, increment, statuses_in

pytestmark = pytest.mark.uvicorn("has other protocols")

LIVE = get("/healthz/live")
LAST = get("/healthz/live", "Connection: close")
LENGTH = "Content-Length: 14"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
MOST = 64 * 1024
HEADERS = HANDSHAKE.count(b"\r\n") - 1  # the first is a line of its own


def head_of(size: int) -> bytes:
    """A good head of `size` bytes, whose connection closes after it."""
    padding = size - len(get("/healthz/live", "Connection: close", "X: "))
    return get("/healthz/live", "Connection: close", "X: " + "x" * padding)


# Heads


@pytest.mark.writes_nothing
@pytest.mark.parametrize("parts", [1, 2, 700])
@pytest.mark.parametrize(("size", "status"), [(MOST, 200), (MOST + 1, 431), (100_000, 431)])
def test_a_head_may_be_so_long_and_not_a_byte_longer(size: int, status: int, parts: int, server: Server) -> None:
    head = head_of(size)
    step = -(-size // parts)

    with Line(server) as line:
        line.say(*(head[start : start + step] for start in range(0, size, step)))

        assert line.statuses() == [status]


@pytest.mark.writes_nothing
@pytest.mark.parametrize(("size", "statuses"), [(MOST, [200, 200]), (MOST + 1, [200, 431])])
def test_a_second_head_may_be_as_long(size: int, statuses: list[int], server: Server) -> None:
    with Line(server) as line:
        line.say(LIVE + head_of(size))

        assert line.statuses() == statuses


def test_a_head_without_an_end_behind_a_request_is_refused_after_its_answer(
    server: Server, token_for: TokenFor
) -> None:
    with Line(server) as line:
        line.say(increment(token_for("ann"), LENGTH) + b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)

        assert line.statuses() == [200, 431]


def test_who_sends_without_an_end_waits_while_earlier_requests_are_answered(
    server: Server, token_for: TokenFor, rival: BaseDatabaseWrapper
) -> None:
    """Whenever one of them begins, uvicorn reads on; the server read as fast as it could, for nothing."""
    increment_of_ann = increment(token_for("ann"), LENGTH)
    with Line(server) as line:
        line.say(increment_of_ann).some()
    with Line(server) as line, rival.cursor() as cursor:
        cursor.execute("BEGIN; SELECT FROM leaderboards FOR UPDATE")  # each waits for some 1.8 s
        line.say(increment_of_ann * 8 + b"GET / HTTP/1.1\r\nX: ")

        taken = line.takes(within_s=3.0)
        cursor.execute("ROLLBACK")
        answers = line.statuses()  # and nothing is under way any more

    assert taken < 64 * 2**20
    assert 200 in answers


def test_fields_without_an_end_behind_a_body_are_refused(server: Server, token_for: TokenFor) -> None:
    with Line(server) as line:
        line.say(increment(token_for("ann"), "Transfer-Encoding: chunked", body=b"1\r\n \r\n0\r\n"))
        line.say(b"X: 1\r\n" * 40_000)

        assert line.statuses() == [431]


@pytest.mark.writes_nothing
def test_a_field_behind_a_body_is_no_header(server: Server, token_for: TokenFor) -> None:
    head = b"POST /api/v1/scores/increment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close"
    body = b'e\r\n{"points": 10}\r\n0\r\n' + f"Authorization: Bearer {token_for('ann')}\r\n\r\n".encode()
    with Line(server) as line:
        line.say(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

        assert line.statuses() == [401]


# Several requests


def test_an_answer_comes_before_the_refusal_of_what_follows(server: Server, token_for: TokenFor) -> None:
    with Line(server) as line:
        line.say(increment(token_for("ann"), LENGTH) + b"what?\r\n\r\n")

        assert line.statuses() == [200, 400]


def test_a_body_that_is_malformed_gets_the_answer_of_its_own_request(server: Server, token_for: TokenFor) -> None:
    broken = increment(token_for("ann"), "Transfer-Encoding: chunked", body=b"zz\r\n")
    with Line(server) as alone, Line(server) as behind_another:
        alone.say(broken)
        behind_another.say(increment(token_for("ann"), LENGTH) + broken + LIVE)

        assert alone.statuses() == [400]
        assert behind_another.statuses() == [200, 400]


@pytest.mark.writes_nothing
def test_a_few_requests_may_wait(server: Server) -> None:
    with Line(server) as line:
        line.say(LIVE * 30 + LAST)

        assert line.statuses() == [200] * 31


@pytest.mark.writes_nothing
def test_ten_thousand_requests_may_not_wait(server: Server) -> None:
    with Line(server) as line:
        line.say(LIVE * 200)

        assert line.statuses() == [200] * 65 + [400]


# Upgrades


def test_an_upgrade_behind_a_request_is_refused_after_its_answer(server: Server, token_for: TokenFor) -> None:
    with Line(server) as line:
        line.say(increment(token_for("ann"), LENGTH) + HANDSHAKE + b"\r\n")

        assert line.statuses() == [200, 400]


@pytest.mark.writes_nothing
def test_an_upgrade_after_an_answer_is_an_upgrade(server: Server) -> None:
    with Line(server) as line:
        assert b" 200 " in line.say(LIVE).some()
        assert line.say(HANDSHAKE + b"\r\n").some().startswith(b"HTTP/1.1 101 ")


BODIES = {
    "with a length": (b"Content-Length: 5\r\n\r\n", b"hello"),
    "with a length only": (b"Content-Length: 5\r\n\r\n", b""),
    "in chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "that is a frame": (b"\r\n", b"\x81\x80\x00\x00\x00\x00"),
}


@pytest.mark.writes_nothing
@pytest.mark.parametrize("name", BODIES)
def test_an_upgrade_with_a_body_is_refused(name: str, server: Server) -> None:
    end, body = BODIES[name]
    with Line(server) as line:
        line.say(HANDSHAKE + end + body)

        assert line.statuses() == [400]


@pytest.mark.parametrize("split", [0, 7, 14])
def test_another_upgrade_is_ignored_and_its_body_read(split: int, server: Server, token_for: TokenFor) -> None:
    request = increment(token_for("ann"), *H2C, LENGTH)
    cut = len(request) - split
    with Line(server) as line:
        line.say(request[:cut], request[cut:] + get("/healthz/live", *H2C) + LAST)

        assert line.statuses() == [200, 200, 200]


@pytest.mark.writes_nothing
def test_many_other_upgrades_are_as_many_requests(server: Server) -> None:
    with Line(server) as line:
        line.say(get("/healthz/live", *H2C) * 400)
        answers = line.everything()

    assert statuses_in(answers) == [200] * 65 + [400]
    assert answers.endswith(http_protocol.TOO_MANY.encode())


@pytest.mark.writes_nothing
@pytest.mark.parametrize(("size", "status"), [(MOST, 200), (MOST + 1, 431)])
def test_another_upgrade_makes_no_head_longer(size: int, status: int, server: Server) -> None:
    head = get("/healthz/live", "Connection:close", "Connection: Upgrade", "Upgrade:h2c", *["X:1"] * 9_000, "Y:")
    with Line(server) as line:
        line.say(head.replace(b"Y:", b"Y:" + b"y" * (size - len(head))))

        assert line.statuses() == [status]


@pytest.mark.writes_nothing
@pytest.mark.parametrize(
    "asked",
    [b"websocket, h2c", b"h2c,WebSocket", b"h2c\r\nUpgrade: websocket", b"websocket\r\nUpgrade: h2c, TLS/1.0"],
)
def test_a_websocket_may_be_one_of_several_upgrades(asked: bytes, server: Server) -> None:
    with Line(server) as line:
        line.say(HANDSHAKE.replace(b"websocket", asked) + b"\r\n")

        assert line.some().startswith(b"HTTP/1.1 101 ")


@pytest.mark.writes_nothing
@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t "])
def test_a_blank_behind_a_value_is_not_a_part_of_it(blank: bytes, server: Server) -> None:
    with Line(server) as line:
        line.say(
            HANDSHAKE.replace(b": 13", b":" + blank + b"13" + blank).replace(b"==\r\n", b"==" + blank + b"\r\n"),
            b"\r\n",
        )

        assert line.some().startswith(b"HTTP/1.1 101 ")


@pytest.mark.writes_nothing
def test_the_address_of_the_socket_says_what_it_takes(server: Server) -> None:
    with Line(server) as line:
        line.say(HANDSHAKE.replace(b"websocket", b"h2c") + b"X: 1\r\n\r\n")
        answer = line.some()

    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b"that takes HTTP/1.1, Upgrade: websocket and Connection: Upgrade" in answer


NO_SOCKETS = {
    "130 headers": (431, HANDSHAKE + b"X: 1\r\n" * 130 + b"\r\n"),
    "a header of 9 KiB": (431, HANDSHAKE + b"X: " + b"x" * 9_000 + b"\r\n\r\n"),
    "an address of 9 KiB": (414, HANDSHAKE.replace(b"board/", b"board/?" + b"x" * 9_000) + b"\r\n"),
    "no key": (400, SOCKET.encode() + b"Sec-WebSocket-Version: 13\r\n\r\n"),
    "two keys": (400, HANDSHAKE + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"),
    "a short key": (400, HANDSHAKE.replace(b"A==", b"==") + b"\r\n"),
    "a key that is no Base64": (400, HANDSHAKE.replace(b"AAA", b"\xff!!") + b"\r\n"),
    "no version": (400, HANDSHAKE.replace(b"Sec-WebSocket-Version", b"X") + b"\r\n"),
    "version 8": (400, HANDSHAKE.replace(b": 13", b": 8") + b"\r\n"),
    "an address that is no ASCII": (400, HANDSHAKE.replace(b"board/", b"board/\xff") + b"\r\n"),
    "another method": (405, HANDSHAKE.replace(b"GET", b"POST") + b"\r\n"),
    "no host": (400, HANDSHAKE.replace(b"Host: 127.0.0.1\r\n", b"") + b"\r\n"),
    "two hosts": (400, HANDSHAKE + b"Host: 127.0.0.1\r\n\r\n"),
    "no target": (400, b"GET  HTTP/1.1\r\n\r\n"),
    "a tunnel": (501, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
}


@pytest.mark.writes_nothing
@pytest.mark.parametrize("name", NO_SOCKETS)
def test_a_handshake_that_is_refused_is_answered_and_closed(name: str, server: Server) -> None:
    status, handshake = NO_SOCKETS[name]
    with Line(server) as line:
        line.say(handshake)

        assert line.statuses() == [status]


@pytest.mark.writes_nothing
@pytest.mark.parametrize(
    ("more", "status"),
    [
        (b"X: 1\r\n" * (128 - HEADERS), 101),
        (b"X: 1\r\n" * (129 - HEADERS), 431),
        (b"X: " + b"x" * 8_187 + b"\r\n", 101),  # 8,192 bytes with its end
        (b"X: " + b"x" * 8_188 + b"\r\n", 431),
        (b"X:" + b"x" * 8_188 + b"\r\n", 431),  # the limit counts a blank that was not sent
    ],
)
def test_a_handshake_may_be_so_long_and_not_a_byte_longer(more: bytes, status: int, server: Server) -> None:
    with Line(server) as line:
        line.say(HANDSHAKE + more + b"\r\n")

        assert line.some().startswith(b"HTTP/1.1 %d " % status)


# Forms of a target, versions, and hosts

FORMS = {
    "the address of a proxy": (
        200,
        b"GET http://127.0.0.1/healthz/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ),
    "HTTP/1.0": (200, b"GET /healthz/live HTTP/1.0\r\n\r\n"),
    "HTTP/1.0 without a host": (200, b"GET /api/v1/leaderboard HTTP/1.0\r\n\r\n"),
    "HTTP/1.0 with two hosts": (400, b"GET /healthz/live HTTP/1.0\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n"),
    "an upgrade of HTTP/1.0": (200, b"GET /healthz/live HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    "all of the server": (404, b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"),
    "HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    **{f"HTTP/{v}": (505, get("/healthz/live").replace(b"1.1", v.encode())) for v in ("0.9", "1.2", "2.0", "3.0")},
    "HTTP before it had versions": (505, b"GET /healthz/live\r\n\r\n"),
    "a version that is none": (400, get("/healthz/live").replace(b"1.1", b"one")),
    "an upgrade of HTTP/2.0": (505, HANDSHAKE.replace(b"1.1", b"2.0") + b"\r\n"),
    "a folded header": (400, get("/healthz/live", "X: 1", " 2")),
    "a header with a zero": (400, get("/healthz/live", "X: 1\x002")),
    "a header with a space before its colon": (400, get("/healthz/live", "X : 1")),
    "ends of lines of another kind": (400, get("/healthz/live").replace(b"\r\n", b"\n")),
    "one length twice": (400, get("/healthz/live", "Content-Length: 0", "Content-Length: 0")),
}


@pytest.mark.writes_nothing
@pytest.mark.parametrize("name", FORMS)
def test_a_request_of_the_form(name: str, server: Server) -> None:
    status, request = FORMS[name]
    with Line(server) as line:
        line.say(request)

        assert line.statuses() == [status]


def test_a_version_that_the_server_does_not_speak_is_refused_after_the_answers_before(
    server: Server, token_for: TokenFor
) -> None:
    with Line(server) as line:
        line.say(increment(token_for("ann"), LENGTH) + LIVE.replace(b"1.1", b"2.0") + LIVE)

        assert line.statuses() == [200, 505]


# Clients that close their half of the connection


def test_a_client_that_sends_no_more_gets_its_answers(server: Server, token_for: TokenFor) -> None:
    token = token_for("ann")
    for count in (1, 4):
        with Line(server) as line:
            line.say(increment(token, LENGTH) * count).end()

            assert line.statuses() == [200] * count

    answer = httpx.get(f"{server.url}/api/v1/users/ann", verify=False)
    assert answer.json()["score"] == 50


UNFINISHED = {
    "half a head": LIVE[:-5],
    "a head without its body": LIVE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"),
    "half a body": LIVE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nab"),
    "a chunk without an end": LIVE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
    "half a handshake": HANDSHAKE,
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_is_unfinished_at_the_end_gets_no_answer(name: str, server: Server, token_for: TokenFor) -> None:
    unfinished = UNFINISHED[name].replace(b"/healthz/live", b"/api/v1/scores/increment")
    with Line(server) as alone, Line(server) as behind_others:
        alone.say(unfinished).end()
        behind_others.say(increment(token_for("ann"), LENGTH) * 2 + unfinished).end()

        assert alone.statuses() == []
        assert behind_others.statuses() == [200, 200]


@pytest.mark.writes_nothing
def test_a_client_with_nothing_to_wait_for_is_let_go(server: Server) -> None:
    with Line(server) as silent, Line(server) as answered, Line(server) as open_socket:
        assert silent.end().everything() == b""
        assert b" 200 " in answered.say(LIVE).some()
        assert answered.end().everything() == b""
        assert open_socket.say(HANDSHAKE + b"\r\n").some().startswith(b"HTTP/1.1 101 ")
        open_socket.end().everything()


def test_a_refusal_comes_after_the_answers_to_a_client_that_sends_no_more(server: Server, token_for: TokenFor) -> None:
    token = token_for("ann")
    broken = increment(token, "Transfer-Encoding: chunked", body=b"zz\r\n")
    for wrong in (b"what?\r\n\r\n", broken):
        with Line(server) as line:
            line.say(increment(token, LENGTH) * 3 + wrong).end()

            assert line.statuses() == [200, 200, 200, 400]


@pytest.mark.writes_nothing
def test_many_requests_of_a_client_that_sends_no_more_are_answered(server: Server) -> None:
    with Line(server) as plain, Line(server) as with_upgrades:
        plain.say(LIVE * 60).end()
        with_upgrades.say(get("/healthz/live", *H2C) * 60).end()

        assert plain.statuses() == [200] * 60
        assert with_upgrades.statuses() == [200] * 60
