"""One reader, many sockets: who is told what, and when."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect

from realtime.hub import Hub
from scores import services
from scores.board import LEADERBOARD
from tools.servers import ROOT, Server


async def next_frame(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return dict(json.loads(await socket.recv()))


def set_total(user_id: str, total: int) -> None:
    services.correct(user_id=user_id, total=total, actor="test", reason="test")


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("after_s", [0, 0.001, 0.05])
async def test_it_stops_however_soon_after_its_start(after_s: float) -> None:
    hub = Hub(LEADERBOARD)
    hub.start()
    await asyncio.sleep(after_s)

    async with asyncio.timeout(30):
        await hub.stop()

    assert not hub.running


async def test_a_change_that_another_process_made_reaches_every_socket(server: Server) -> None:
    async with connect(server.ws_url) as one, connect(server.ws_url) as another:
        assert [(await next_frame(socket))["leaderboard"] for socket in (one, another)] == [[], []]

        await asyncio.to_thread(set_total, "ann", 7)

        frames = [await next_frame(socket) for socket in (one, another)]
        assert frames[0]["leaderboard"] == [{"userId": "ann", "score": 7}]
        assert frames[0] == frames[1]


async def test_a_socket_opened_while_redis_has_just_been_emptied_gets_the_right_board(
    server: Server, redis: Redis
) -> None:
    await asyncio.to_thread(set_total, "ann", 7)
    async with connect(server.ws_url) as socket:  # so that the hub has seen it
        while (await next_frame(socket))["seq"] < 1:
            pass

        redis.flushall()

        for _ in range(20):
            async with connect(server.ws_url) as newcomer:
                assert (await next_frame(newcomer))["leaderboard"] == [{"userId": "ann", "score": 7}]


async def test_an_unchanged_top_10_is_not_sent_again(server: Server) -> None:
    for number in range(10):
        await asyncio.to_thread(set_total, f"user{number}", 100)
    async with connect(server.ws_url) as socket:
        while (await next_frame(socket))["seq"] < 10:
            pass

        await asyncio.to_thread(set_total, "somebody below", 1)
        await asyncio.to_thread(set_total, "user5", 200)

        frame = await next_frame(socket)
        assert frame["seq"] == 12
        assert frame["leaderboard"][0] == {"userId": "user5", "score": 200}


async def test_a_socket_that_never_reads_costs_the_others_nothing(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
    writer.write(HANDSHAKE)
    reader._transport.pause_reading()  # type: ignore[attr-defined]  # nothing of what arrives is taken
    async with connect(server.ws_url) as socket:
        await next_frame(socket)

        for total in range(1, 6):
            await asyncio.to_thread(set_total, "ann", total)
            while (await next_frame(socket))["leaderboard"] != [{"userId": "ann", "score": total}]:
                pass

    writer.transport.abort()


HANDSHAKE = b"\r\n".join(
    [
        b"GET /ws/leaderboard/ HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"\r\n",
    ]
)


async def test_a_change_made_by_a_command_reaches_the_sockets(server: Server) -> None:
    program = (
        "import django; django.setup()\n"
        "from scores import services\n"
        "services.block(user_id='ann', actor='admin', reason='cheated')\n"
    )
    await asyncio.to_thread(set_total, "ann", 7)
    async with connect(server.ws_url) as socket:
        while (await next_frame(socket))["leaderboard"] != [{"userId": "ann", "score": 7}]:
            pass

        env = server.env | {"DJANGO_SETTINGS_MODULE": "leaderboard_site.settings"}
        command = [sys.executable, "-c", program]
        await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=env, check=True)

        assert (await next_frame(socket))["leaderboard"] == []
