"""What runs beside the requests of a server process, such as the tail and the hub: started once, ended in order."""

from __future__ import annotations

import asyncio
import logging
import os

from django.conf import settings

from leaderboard_site.asgi_types import Receive, Scope, Send
from leaderboard_site.operations import processes
from leaderboard_site.operations.cleanup import cleaner
from leaderboard_site.operations.drain import drain
from realtime.board_hub import board_hub
from realtime.hub import hub
from scores import board_results, board_selectors, engagement_selectors, queued, selectors
from scores.access import limiter
from scores.api import boards
from scores.engagement.sockets import sampler
from scores.followers import runners
from scores.log import refusals
from scores.log.rank_index import rank_indexer
from scores.log.token_uses import token_uses
from scores.log.writer import writer
from scores.projection.tail import tail

from . import affinity
from .garbage import calm_collection

logger = logging.getLogger(__name__)


def start() -> None:
    """Starts what is not running. Cheap to call for each request, as a server without a lifespan (daphne) needs it."""
    if not hub.running:
        calm_collection()
        logger.info("CPU affinity: %s", affinity.apply(wanted=settings.CPU_AFFINITY))
        tail.start()
        hub.start()
        board_selectors.reader.start()
        sampler.watch(processes.open_sockets)
        runners.start(is_dedicated=False)
        processes.reporter.start()
        cleaner.start()


async def stop() -> None:
    """Commits the waiting increments, then ends everything else. No request may be running any more."""
    await asyncio.to_thread(writer.batcher.close)
    await asyncio.to_thread(queued.queue.stop)
    await asyncio.to_thread(queued.outcomes.close)
    await hub.stop()
    await board_hub.stop()
    await asyncio.to_thread(boards.changes.close)
    await asyncio.to_thread(boards.lists.close)
    await asyncio.to_thread(refusals.batcher.close)
    await asyncio.to_thread(selectors.reader.batcher.close)
    await board_selectors.reader.stop()
    await asyncio.to_thread(board_results.reader.close)
    await asyncio.to_thread(engagement_selectors.reader.close)
    await asyncio.to_thread(limiter.batcher.close)
    await asyncio.to_thread(rank_indexer.stop)
    await asyncio.to_thread(token_uses.stop)
    await asyncio.to_thread(runners.stop)
    await asyncio.to_thread(tail.stop)
    await asyncio.to_thread(processes.reporter.stop)
    await asyncio.to_thread(cleaner.stop)
    affinity.seat.leave()


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI lifespan protocol, version 2.0."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            start()
            drain.watch()
            logger.info("Process %d is ready", os.getpid())
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await stop()
            logger.info("Process %d has ended cleanly", os.getpid())
            await send({"type": "lifespan.shutdown.complete"})
            return
