"""What runs beside the requests of a server process: the tail, the hub and the two lanes; started once, ended in order."""

from __future__ import annotations

import asyncio

from realtime.hub import hub
from scores import selectors, writer
from scores.tail import tail

from .interface import Receive, Scope, Send


def start() -> None:
    """Start what is not running. Cheap to call again, which servers without a lifespan (daphne) rely on."""
    if not hub.running:
        tail.start()
        hub.start()


async def stop() -> None:
    """Work off the waiting increments, then end everything else. No request may be running any more."""
    await asyncio.to_thread(writer.lane.close)
    await hub.stop()
    await asyncio.to_thread(selectors.lane.close)
    await asyncio.to_thread(tail.stop)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI lifespan protocol, version 2.0."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            start()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
