"""A connection ends, whatever its client does not do: read, finish, or wait to be asked."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.polling import until
from tools.servers import Server

from .lines import HANDSHAKE, Line, get

pytestmark = pytest.mark.uvicorn("has other protocols")

# The production server, with seconds where it has half minutes and without pings, which end a silent client as well.
# Small buffers of the kernel keep what is not read in those of the server.
IMPATIENT_SERVER = """
import asyncio, socket
from leaderboard_site.server import connection

connection.HEAD_S = connection.READS_NOTHING_S = 1.0

from leaderboard_site.server import http_protocol, uvicorn_server

http_protocol.HURRY_S = 1.0
uvicorn_server.set_up()

from leaderboard_site import asgi
from tests.leaderboard_site.server import busy_hubs

busy_hubs.set_up()

async def application(scope, receive, send):
    path = scope.get("path", "")
    if path.startswith("/bytes/"):
        body = bytes(int(path.removeprefix("/bytes/")))
        headers = [(b"content-length", b"%d" % len(body))]
        await send(dict(type="http.response.start", status=200, headers=headers))
        await send(dict(type="http.response.body", body=body))
        return
    if path in ("/ws/never/", "/ws/late/"):
        await asyncio.sleep(3 if path == "/ws/never/" else 0.2)
        scope["path"] = "/ws/leaderboard/"
    await asgi.application(scope, receive, send)

options = uvicorn_server.config()
options.app, options.ws_ping_interval = application, None
listener = socket.create_server((options.host, options.port))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
uvicorn_server.Server(options, lambda: None).run(sockets=[listener])
"""
LARGE = 1_000_000  # bytes of an answer: more than the server writes before it waits for its client
SMALL = 60_000  # less than that, and more than the kernel takes
ROOM = 4096
SOCKET = HANDSHAKE + b"\r\n"
SOCKETS = {
    "frames": SOCKET,
    "frames of a board": SOCKET.replace(b"/ws/leaderboard/", b"/ws/boards/a/"),
    "frames of boards": SOCKET.replace(b"/ws/leaderboard/", b"/ws/boards/?board=a&board=b"),
}
GOODBYE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
PING = b"\x89\x80\x00\x00\x00\x00"
HALF_A_HEAD = b"GET / HTTP/1.1\r\nX: " + b"x" * 60_000

DO_NOT_READ = {
    "an answer": [get(f"/bytes/{LARGE}")],
    "the last answer": [get(f"/bytes/{LARGE}", "Connection: close")],
    "a small last answer": [get(f"/bytes/{SMALL}", "Connection: close")],
    "an answer and ask on": [get(f"/bytes/{LARGE}") * 3 + HALF_A_HEAD],
    "an answer and a refusal": [get(f"/bytes/{SMALL}") + b"what?\r\n\r\n"],
    "an answer before a socket": [get(f"/bytes/{LARGE}"), SOCKET],
    "a close frame": [get(f"/bytes/{SMALL}"), SOCKET, GOODBYE],
    **{name: [socket] for name, socket in SOCKETS.items()},
}


@pytest.fixture(scope="module")
def impatient(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("impatient") / "log"
    env = {"DATABASE_URL": _server.env["DATABASE_URL"]}
    server = Server(log, env, command=(sys.executable, "-c", IMPATIENT_SERVER)).start()
    yield server
    nobody_holds_up_its_end(server)


def nobody_holds_up_its_end(server: Server) -> None:
    others = [SOCKET], [HALF_A_HEAD], [HANDSHAKE + b"Content-Length: 5\r\n\r\nhello"]
    with ExitStack() as stack:
        for parts in (*DO_NOT_READ.values(), *others):
            stack.enter_context(Line(server, room=ROOM)).say(*parts)

        assert server.stop() == -signal.SIGTERM  # and not by what uvicorn does after 20 s, which has a traceback

    assert re.findall("Traceback|Cancel", server.log.read_text()) == []


def test_clients_are_cut_that_do_not_read(impatient: Server) -> None:
    with ExitStack() as stack:
        lines = {name: stack.enter_context(Line(impatient, room=ROOM)) for name in DO_NOT_READ}
        for name, line in lines.items():
            for part in DO_NOT_READ[name]:
                with suppress(ConnectionError):  # it was cut already, on a machine that stood still
                    line.say(part)
                time.sleep(0.05)  # so that it arrives by itself

        for line in lines.values():
            until(line.is_cut)


def test_a_client_that_reads_slowly_gets_everything(impatient: Server) -> None:
    for _ in range(10):
        received, longest = read_slowly(impatient)
        if longest < 0.7:
            break  # else it did read nothing for long, on a machine that stood still

    assert len(received.partition(b"\r\n\r\n")[2]) == 60_000


def read_slowly(server: Server) -> tuple[bytes, float]:
    """What came, and the longest time between two reads."""
    received, longest = b"", 0.0
    with Line(server, room=ROOM) as line, suppress(ConnectionError):
        line.say(get("/bytes/60000", "Connection: close"))
        read_at = time.monotonic()
        while part := line.some(20_000):
            now = time.monotonic()
            received, longest, read_at = received + part, max(longest, now - read_at), now
            time.sleep(0.25)
    return received, longest


def test_a_handshake_that_nobody_answers_is_refused(impatient: Server) -> None:
    with Line(impatient) as line:
        line.say(SOCKET.replace(b"leaderboard", b"never"))

        assert line.statuses() == [503]


def test_a_frame_before_the_answer_is_heard_after_it(impatient: Server) -> None:
    for _ in range(10):
        with Line(impatient) as line:
            line.say(SOCKET.replace(b"leaderboard", b"late"))
            time.sleep(0.1)
            with suppress(ConnectionError):
                line.say(PING * 3 + GOODBYE)
            heard = line.everything()
        if b" 503 " not in heard[:20]:
            break  # else the handshake took longer than a second: the machine stood still

    assert heard.startswith(b"HTTP/1.1 101 ")
