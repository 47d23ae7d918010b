"""What a socket leaves behind when it is gone."""

from __future__ import annotations

import asyncio
import gc

import uvicorn
from websockets.asyncio.client import connect

from leaderboard_site import asgi
from leaderboard_site.server import uvicorn_server
from leaderboard_site.server.http_protocol import HttpProtocol
from leaderboard_site.server.socket_protocol import SocketProtocol
from tests.polling import until
from tools.servers import free_port


def protocols_left() -> int:
    return sum(type(o) in (HttpProtocol, SocketProtocol) for o in gc.get_objects())


async def test_a_socket_that_is_gone_needs_no_garbage_collection() -> None:
    """Full collections are rare (`garbage.calm_collection`); what needs one would pile up to gigabytes."""
    options = uvicorn_server.config()
    options.app, options.port, options.lifespan = asgi.protocols, free_port(), "off"
    serving = uvicorn.Server(options)
    with serving.capture_signals():
        task = asyncio.create_task(serving._serve())
        while not serving.started:  # noqa: ASYNC110  uvicorn has flags, not events
            await asyncio.sleep(0.01)

        async def come_and_go() -> None:
            async with connect(f"ws://127.0.0.1:{options.port}/ws/leaderboard/"):
                pass

        await come_and_go()
        gc.collect()
        gc.disable()
        try:
            await asyncio.gather(*(come_and_go() for _ in range(20)))
            while serving.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.to_thread(until, lambda: protocols_left() <= 2)  # of the frames that run now
        finally:
            gc.enable()

        serving.should_exit = True
        await task
