"""Who comes too often, in too great a number, or talks too much, is told so; nobody else notices."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from itertools import cycle, islice
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import EmptyBoard, empty_board
from tests.polling import until
from tools.servers import Server

from .addresses import PATHS, url

pytestmark = [pytest.mark.slow, pytest.mark.writes_nothing]

# Frames of one key, which is zeros. Sent as one: a client that takes seconds to say a thousand does not hear in time that
# it has said too much.
MASK = bytes(4)
FLOODS = {
    "text": (bytes([0x81, 0x81]) + MASK + b"x") * 1000,
    "bytes": (bytes([0x82, 0x81]) + MASK + b"x") * 1000,
    "ping": (bytes([0x89, 0x80]) + MASK) * 1000,
    "empty continuations": bytes([0x01, 0x80]) + MASK + (bytes([0x00, 0x80]) + MASK) * 1000,
}


@pytest.fixture(scope="module")
def _crowded(_server: Server, _empty: EmptyBoard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    empty_board()  # before it starts: it would still show for a moment what was there
    _empty.is_untouched, _empty.is_noticed = True, False
    env = {
        "DATABASE_URL": _server.env["DATABASE_URL"],
        "TRUSTED_PROXIES": "127.0.0.1",  # so that a test may come from anywhere
        "MAX_SOCKETS_PER_ADDRESS": "3",
        "MAX_SOCKETS": "5",
        "HANDSHAKE_RATE_LIMIT": "10/minute",
        "LOG_LEVEL": "DEBUG",  # in which a socket's end is told
    }
    crowded = Server(log=tmp_path_factory.mktemp("crowded") / "log", env=env).start()
    yield crowded
    crowded.stop()


@pytest.fixture
def crowded(_crowded: Server, board: None) -> Server:
    """Three sockets for an address, five in all, ten handshakes a minute, and nobody there yet."""
    return _crowded


def from_address(server: Server, address: str, path: str = PATHS[0]) -> connect:
    return connect(url(server, path), additional_headers={"X-Forwarded-For": address}, proxy=None)


async def end_of(socket: ClientConnection) -> tuple[int | None, str | None]:
    """The code and the reason of the close frame that comes, whatever comes before it."""
    async with asyncio.timeout(30):  # in all: there is a frame at every heartbeat
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code, socket.close_reason


async def leave(server: Server, *sockets: ClientConnection) -> None:
    """Close them, and return when the server has heard of it."""
    before = gone(server)
    for socket in sockets:
        await socket.close()
    await asyncio.to_thread(until, lambda: gone(server) >= before + len(sockets))


def gone(server: Server) -> int:
    return server.log.read_text().count(" closed with ")


# Too many


@pytest.mark.uvicorn("believes no proxy, and cannot say 1013")
async def test_an_address_has_so_many_sockets_and_no_more(crowded: Server) -> None:
    sockets = [await from_address(crowded, "192.0.2.1", path) for path in PATHS]

    for path in PATHS:
        refused = await from_address(crowded, "192.0.2.1", path)
        assert await end_of(refused) == (1013, "too many sockets from your address")

    types = [json.loads(await socket.recv())["type"] for socket in sockets]
    assert types == ["leaderboard_update", "board_update", "board_update"]
    await leave(crowded, *sockets)


@pytest.mark.uvicorn("believes no proxy, and cannot say 1013")
async def test_whoever_leaves_makes_room(crowded: Server) -> None:
    sockets = [await from_address(crowded, "192.0.2.2", path) for path in PATHS]
    for path in PATHS:
        await leave(crowded, sockets.pop())

        sockets.insert(0, await from_address(crowded, "192.0.2.2", path))

        assert json.loads(await sockets[0].recv())["leaderboard"] == []
    await leave(crowded, *sockets)


@pytest.mark.uvicorn("believes no proxy, and cannot say 1013")
async def test_a_process_has_so_many_sockets_and_no_more(crowded: Server) -> None:
    taken = zip((3, 3, 3, 4, 4), [*PATHS, *PATHS[:2]], strict=True)
    sockets = [await from_address(crowded, f"192.0.2.{n}", path) for n, path in taken]

    for path in PATHS:
        assert await end_of(await from_address(crowded, "192.0.2.5", path)) == (1013, "too many sockets")

    await leave(crowded, *sockets)


@pytest.mark.uvicorn("believes no proxy")
async def test_an_address_has_so_many_handshakes_and_no_more(crowded: Server) -> None:
    for path in islice(cycle(PATHS), 10):
        await leave(crowded, await from_address(crowded, "2001:db8::1", path))

    for path in PATHS:
        with pytest.raises(InvalidStatus) as refused:
            await from_address(crowded, "2001:db8::2", path)  # the same household

        response: Any = refused.value.response
        assert response.status_code == 429
        assert json.loads(response.body)["code"] == "rate_limited"
        assert 1 <= int(response.headers["Retry-After"]) <= 61
    await leave(crowded, await from_address(crowded, "2001:db8:0:1::1"))


# Too much


@pytest.mark.uvicorn("listens to any number of frames")
@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_closes_the_socket_with_4429(kind: str, server: Server) -> None:
    async def flood(path: str) -> None:
        async with connect(url(server, path), ping_interval=None) as socket, connect(url(server, path)) as another:
            board = await socket.recv()
            socket.transport.write(FLOODS[kind])

            assert await end_of(socket) == (4429, "more than 10 frames in a second")
            # On a busy machine it may be told with an age: the server has stood still between two tests.
            assert json.loads(await another.recv())["leaderboard"] == json.loads(board)["leaderboard"]

    await asyncio.gather(*map(flood, PATHS))


async def test_a_few_messages_a_second_are_nobodys_business(server: Server) -> None:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(url(server, path))) for path in PATHS]
        for _ in range(3):
            for socket in sockets:
                for _ in range(4):
                    await socket.send("x" * 1024)
                await (await socket.ping())
            await asyncio.sleep(1.01)

        assert [socket.close_code for socket in sockets] == [None] * len(PATHS)


@pytest.mark.uvicorn("takes messages of any length")
async def test_a_long_message_in_many_parts_closes_the_socket_with_1009(server: Server) -> None:
    async def close_code(path: str) -> int | None:
        async with connect(url(server, path)) as socket:
            await socket.recv()
            await socket.send(["x" * 300] * 5)
            return (await end_of(socket))[0]

    assert await asyncio.gather(*map(close_code, PATHS)) == [1009] * len(PATHS)


@pytest.mark.uvicorn("drops the line without a close frame")
async def test_a_text_that_is_none_closes_the_socket_with_1007(server: Server) -> None:
    async def close_code(path: str) -> int | None:
        async with connect(url(server, path)) as socket:
            await socket.recv()
            await socket.send(b"\xff\xfe", text=True)
            return (await end_of(socket))[0]

    assert await asyncio.gather(*map(close_code, PATHS)) == [1007] * len(PATHS)


# Too slow


@pytest.mark.uvicorn("waits for ever")
async def test_a_head_that_does_not_end_is_cut(server: Server) -> None:
    beginnings = [
        b"",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n",
        b"GET /healthz/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /healthz/live HT",  # after a whole one
    ]
    begun = time.monotonic()
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in beginnings]
    for (_, writer), beginning in zip(connections, beginnings, strict=True):
        writer.write(beginning[:40])
        await asyncio.sleep(0.05)
        writer.write(beginning[40:])
    answered, *_ = await asyncio.gather(*(asyncio.wait_for(reader.read(), 30) for reader, _ in connections[:2]))
    took = time.monotonic() - begun
    for _, writer in connections:
        writer.close()

    assert answered == b""
    assert took > 4


async def test_a_head_of_any_size_is_cut(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
    try:
        for _ in range(1000):
            writer.write(b"x" * 1024)
            await writer.drain()
    except ConnectionError:
        pass

    try:
        answer = await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:  # reset by what was still on its way
        answer = b"HTTP/1.1 431"
    writer.close()

    assert answer.startswith(b"HTTP/1.1 431")


async def test_a_connection_that_waits_between_requests_is_not(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for pause in (5.5, 0):
        writer.write(b"GET /healthz/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"}"), 30)
        await asyncio.sleep(pause)
    writer.close()
