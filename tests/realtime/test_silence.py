"""Sockets on which nothing happens. Slow on purpose: what closes idle sockets does so after 5 s, 30 s or 60 s."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.client import connect

from scores import services
from tests.servers import Server


async def test_an_idle_socket_lives_through_a_minute_and_hears_of_the_next_change(server: Server) -> None:
    # No pings of the client's: what keeps the line alive has to come from the server.
    async with connect(server.ws_url, ping_interval=None) as socket:
        first = await socket.recv()
        frames = []
        try:
            async with asyncio.timeout(62):
                while True:
                    frames.append(await socket.recv())
        except TimeoutError:
            pass

        # The heartbeat is the state, every 25 s.
        assert frames == [first, first]
        await asyncio.to_thread(services.correct, user_id="ann", total=7, actor="test", reason="test")
        async with asyncio.timeout(10):
            assert json.loads(await socket.recv())["leaderboard"] == [{"userId": "ann", "score": 7}]
