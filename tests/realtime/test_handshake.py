"""Which sockets open, and where."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime import origins
from realtime.origins import MOST_NAMED, OriginCheck, is_allowed
from tools.servers import Server

from .addresses import PATHS, url

pytestmark = pytest.mark.writes_nothing

at_each_path = pytest.mark.parametrize("path", PATHS)


@pytest.mark.parametrize("path", ["/ws/leaderboard/", "/ws/leaderboard", "/"])
async def test_the_board_is_at(path: str, server: Server) -> None:
    async with connect(url(server, path)) as socket:
        assert json.loads(await socket.recv())["type"] == "leaderboard_update"


@pytest.mark.parametrize("path", ["/ws/", "/ws/leaderboard/x", "/api/v1/leaderboard", "/%00", "/%ff"])
async def test_nothing_is_at(path: str, server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url(server, path)):
            pass

    assert refused.value.response.status_code == 403


@at_each_path
async def test_a_page_of_the_same_host_may(path: str, server: Server) -> None:
    async with connect(url(server, path), origin=f"http://127.0.0.1:{server.port}") as socket:  # type: ignore[arg-type]
        await socket.recv()


@at_each_path
@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://127.0.0.1:1"])
async def test_a_page_of_another_host_may_not(origin: Any, path: str, server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url(server, path), origin=origin):
            pass

    assert refused.value.response.status_code == 403


async def test_the_log_names_an_origin_once(server: Server) -> None:
    origins = ["https://once.example", "https://twice.example", "https://twice.example"]
    for origin in origins:
        with pytest.raises(InvalidStatus):
            async with connect(server.ws_url, origin=origin):  # type: ignore[arg-type]
                pass

    lines = [line for line in server.log.read_text().splitlines() if "SOCKET_ORIGINS" in line]
    assert [sum(origin in line for line in lines) for origin in origins] == [1, 1, 1]


async def test_the_log_does_not_name_every_origin(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.disconnect", "code": 1006} if events.pop() else {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    check = OriginCheck(never)
    for number in range(2 * MOST_NAMED):
        events = [True, False]
        headers = [(b"origin", b"https://%d.example" % number + b"x" * 60_000), (b"host", b"x" * 60_000)]
        await check({"type": "websocket", "headers": headers}, receive, send)  # type: ignore[typeddict-item]

    assert [message["type"] for message in sent] == ["websocket.close"] * 2 * MOST_NAMED
    # On a busy machine asyncio's debug mode has a line of its own, about a task that took long.
    named = [record.getMessage() for record in caplog.records if record.name == origins.logger.name]
    assert len(named) == MOST_NAMED
    assert max(map(len, named)) < 1000
    assert named[-1].endswith("no more will be")


async def never(*_: Any) -> None:
    raise AssertionError("no refused origin gets here")


@pytest.mark.parametrize("path", ["/ws/leaderboard/", "/ws/leaderboard"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_a_proxy_took_the_upgrade_out_of_is_told_so(method: str, path: str, server: Server) -> None:
    before = server.log.read_text()

    answer = httpx.request(method, f"{server.url}{path}", verify=False)

    assert (answer.status_code, answer.headers["Upgrade"]) == (426, "websocket")
    assert "proxy" in answer.text
    assert "warning" not in server.log.read_text()[len(before) :].lower()


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://game.example.org", "scores.example.org", True),  # listed
        ("https://scores.example.org", "scores.example.org", True),
        ("https://scores.example.org", "scores.example.org:8443", False),
        ("https://evil.example", "evil.example", False),  # a rebound name: its own Host, but not ours
        ("http://game.example.org", "scores.example.org", False),
        ("https://game.example.org.evil.example", "scores.example.org", False),
        ("https://[::1", "[::1", False),
        ("", "", False),
    ],
)
def test_own_and_listed_origins(origin: str, host: str, allowed: bool, settings: Any) -> None:
    settings.SOCKET_ORIGINS = ["https://game.example.org"]
    settings.ALLOWED_HOSTS = ["scores.example.org"]

    assert is_allowed(origin, host) is allowed


async def test_what_a_client_says_changes_nothing(server: Server) -> None:
    async with connect(server.ws_url) as socket:
        first = json.loads(await socket.recv())["leaderboard"]
        for said in ("{", '{"type": "leaderboard_update"}', b"\x00\xff", "x" * 1024):
            await socket.send(said)

        async with connect(server.ws_url) as another:
            # Not the whole frame: it may be told with an age, since the server has stood still between two tests.
            assert json.loads(await another.recv())["leaderboard"] == first


@pytest.mark.uvicorn("takes messages of any length")
async def test_a_long_message_closes_the_socket_with_1009(server: Server) -> None:
    async def close_code(path: str) -> int | None:
        async with connect(url(server, path)) as socket:
            await socket.recv()
            await socket.send("x" * 1025)

            with pytest.raises(ConnectionClosed):
                await socket.recv()
        return socket.close_code

    assert await asyncio.gather(*map(close_code, PATHS)) == [1009] * len(PATHS)


@pytest.mark.uvicorn("drops the line without a close frame")
async def test_a_server_that_ends_says_so_with_1012(server: Server, tmp_path: Any) -> None:
    another = Server(log=tmp_path / "log", env={"DATABASE_URL": server.env["DATABASE_URL"]}).start()
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(url(another, path))) for path in PATHS]
        for socket in sockets:
            await socket.recv()

        another.process.terminate()

        for socket in sockets:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
    another.stop()
    assert [socket.close_code for socket in sockets] == [1012] * len(PATHS)
