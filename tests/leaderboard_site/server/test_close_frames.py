"""RFC 6455, section 5.5.1: after a close frame no data follows, whichever way a socket ends and however fast frames come."""

from __future__ import annotations

import base64
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest

from tools.servers import Server

pytestmark = pytest.mark.uvicorn("writes frames past ASGI")

MAX_SOCKETS = 50
# The production server, whose hub has a new frame in every turn of the event loop, and so also in the one that sends a
# close frame: real changes, at most one in 10 ms, would meet it once in a thousand closings. Small buffers of the kernel
# keep some data in those of the server, which then still takes what is written after `transport.close()`.
BUSY_SERVER = """
import socket
from leaderboard_site.server import uvicorn_server

uvicorn_server.set_up()

from tests.leaderboard_site.server import busy_hubs

busy_hubs.set_up()
options = uvicorn_server.config()
options.ws_ping_interval, options.ws_ping_timeout = 1, 3
listener = socket.create_server((options.host, options.port))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
uvicorn_server.Server(options, lambda: None).run(sockets=[listener])
"""

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
# Where clients are, and how many frames they read before: each another number, so that their buffers are filled differently.
# The hub of that server asks nobody whether there are such boards.
PLACES = [
    *(("/ws/leaderboard/", read_before) for read_before in range(20, 4000, 500)),
    *(("/ws/boards/a/", read_before) for read_before in range(20, 2000, 750)),
    *(("/ws/boards/?board=a&board=b&board=c", read_before) for read_before in range(20, 2000, 750)),
]


class Frame(NamedTuple):
    opcode: int
    payload: bytes


def masked(opcode: int, payload: bytes = b"", *, first_bits: int = 0x80) -> bytes:
    """A client's frame, with a mask of zeros; `first_bits` are FIN and those that RFC 6455 reserves."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BH", 0x80 | 126, len(payload))
    return bytes([first_bits | opcode]) + length + bytes(4) + payload


class Client:
    """A socket without a library between it and the test, which would hide what comes after a close frame."""

    def __init__(self, server: Server, path: str = "/ws/leaderboard/", read_before: int = 0) -> None:
        self.read_before = read_before
        self.answers_pings = True
        self._received = b""
        self._socket = socket.socket()
        self._socket.settimeout(20)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", server.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._received:
            assert self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")

    def say(self, *frames: bytes) -> None:
        try:
            self._socket.sendall(b"".join(frames))
        except OSError:
            pass  # the server is gone; what it sent before is still to be read

    def hang_up(self) -> None:
        """Send no more, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def frame(self) -> Frame | None:
        """The next frame; `None` after the last one."""
        while True:
            if (frame := self._whole_frame()) is not None:
                if frame.opcode == PING and self.answers_pings:
                    self.say(masked(PONG, frame.payload))
                return frame
            if not self._receive():
                return None

    def frames(self) -> list[Frame]:
        """Every frame until the connection ends."""
        return list(iter(self.frame, None))

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:  # by a server that does not read what is still on its way
            return False
        self._received += data
        return data != b""

    def _whole_frame(self) -> Frame | None:
        """The next frame, if all of it is here; none has 64 KiB."""
        received = self._received
        head = 4 if received[1:2] == bytes([126]) else 2
        if len(received) < head:
            return None
        length = received[1] if head == 2 else int.from_bytes(received[2:4], "big")
        if len(received) < head + length:
            return None
        self._received = received[head + length :]
        return Frame(received[0] & 0x0F, received[head : head + length])


@pytest.fixture(scope="module")
def busy_server(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(_server, tmp_path_factory.mktemp("busy"))
    yield server
    server.stop()


def start(like: Server, folder: Path) -> Server:
    env = {"DATABASE_URL": like.env["DATABASE_URL"], "MAX_SOCKETS": str(MAX_SOCKETS)}
    return Server(folder / "log", env, command=(sys.executable, "-c", BUSY_SERVER)).start()


@pytest.fixture
def clients(busy_server: Server) -> Iterator[list[Client]]:
    yield from opened(busy_server)


def opened(server: Server) -> Iterator[list[Client]]:
    clients = [Client(server, *place) for place in PLACES]
    yield clients
    for client in clients:
        client.close()
    assert "Traceback" not in server.log.read_text()


def all_frames(clients: list[Client], end: Callable[[Client], None]) -> list[list[Frame]]:
    """What each client gets; after some frames it does what is to `end` its socket."""

    def frames_of(client: Client) -> list[Frame]:
        frames = list(islice(iter(client.frame, None), client.read_before))
        end(client)
        return frames + client.frames()

    with ThreadPoolExecutor(len(clients)) as threads:
        return list(threads.map(frames_of, clients))


def closing_codes(sockets: list[list[Frame]]) -> set[int]:
    """The codes of the close frames, after which there must be nothing.

    A server that does not wait for its client takes a close frame back that is not read within a second: it aborts the
    connection. So there may be a socket without one.
    """
    codes = set()
    for frames in sockets:
        opcodes = [frame.opcode for frame in frames]
        if CLOSE in opcodes:
            assert opcodes.index(CLOSE) == len(opcodes) - 1, f"{opcodes[opcodes.index(CLOSE) :]} at the end"
            codes |= {int.from_bytes(frames[-1].payload[:2], "big")}
    return codes


GOODBYE = masked(CLOSE, struct.pack("!H", 1000))
NO_UTF8 = masked(TEXT, b"\xff")


def closes(client: Client) -> None:
    client.say(GOODBYE)


def says_too_much(client: Client) -> None:
    client.say(*[masked(PING)] * 20)


def says_too_much_and_closes(client: Client) -> None:
    client.say(*[masked(PING)] * 20, GOODBYE)


def says_no_utf8(client: Client) -> None:
    client.say(NO_UTF8)


def says_no_utf8_and_closes(client: Client) -> None:
    client.say(NO_UTF8, GOODBYE)


def says_too_long_a_text(client: Client) -> None:
    client.say(masked(TEXT, bytes(2000)))


def breaks_the_protocol(client: Client) -> None:
    client.say(masked(TEXT, first_bits=0xF0))


def answers_no_ping(client: Client) -> None:
    client.answers_pings = False


WAYS_OUT: list[tuple[Callable[[Client], None], int]] = [
    (closes, 1000),
    (says_too_much, 4429),
    (says_too_much_and_closes, 1000),
    (says_no_utf8, 1007),
    (says_no_utf8_and_closes, 1000),
    (says_too_long_a_text, 1009),
    (breaks_the_protocol, 1002),
    (answers_no_ping, 1011),
]


@pytest.mark.parametrize(("end", "code"), WAYS_OUT, ids=[end.__name__ for end, _ in WAYS_OUT])
def test_nothing_follows_the_close_frame_when_a_client(
    end: Callable[[Client], None], code: int, clients: list[Client]
) -> None:
    assert code in (codes := closing_codes(all_frames(clients, end)))
    assert codes <= {code, UNANSWERED}


UNANSWERED = (
    1011  # of a ping: these clients answer none, and on a busy machine the server's patience ends before the test
)


def by_the_last_of(clients: list[Client], act: Callable[[], None]) -> Callable[[Client], None]:
    """What ends the sockets of all clients is done once."""
    return lambda client: act() if client is clients[-1] else None


def test_nothing_follows_the_close_frame_of_the_application(busy_server: Server, clients: list[Client]) -> None:
    end = by_the_last_of(clients, lambda: busy_server.process.send_signal(signal.SIGUSR1))

    assert closing_codes(all_frames(clients, end)) - {UNANSWERED} == {4000}


def test_nothing_follows_the_close_frame_of_a_server_that_ends(server: Server, tmp_path: Path) -> None:
    ending = start(server, tmp_path)
    try:
        for some in opened(ending):
            end = by_the_last_of(some, lambda: ending.process.send_signal(signal.SIGTERM))

            assert closing_codes(all_frames(some, end)) - {UNANSWERED} == {1012}
    finally:
        ending.stop()


def test_nothing_follows_the_close_frame_of_a_refusal(busy_server: Server) -> None:
    clients: list[Client] = []
    try:
        for _ in range(2 * MAX_SOCKETS):
            clients.append(Client(busy_server))
            first = clients[-1].frame()
            if first is not None and first.opcode == CLOSE:
                assert closing_codes([[first, *clients[-1].frames()]]) == {1013}
                break
        else:
            raise AssertionError("nobody is refused")
    finally:
        for client in clients:
            client.close()


def test_a_client_that_hangs_up_gets_no_close_frame_and_whole_frames_only(clients: list[Client]) -> None:
    for frames in all_frames(clients, Client.hang_up):
        assert {frame.opcode for frame in frames} <= {TEXT, PING}
