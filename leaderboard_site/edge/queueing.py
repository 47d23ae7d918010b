"""A queue in front of what costs a thread for each request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from leaderboard_site.asgi_types import Application, Receive, Scope, Send


class Queueing:
    """Lets at most `at_once` requests work for their responses in `app`; the others wait in their turn.

    Whoever has begun to answer is not counted: a client that does not read would keep its place.
    """

    def __init__(self, app: Application, *, at_once: int) -> None:
        self.app = app
        self._places = asyncio.Semaphore(at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_place = True

        async def send_and_leave(message: Mapping[str, Any]) -> None:
            leave()
            await send(message)

        def leave() -> None:
            nonlocal has_place
            if has_place:
                has_place = False
                self._places.release()

        await self._places.acquire()
        try:
            await self.app(scope, receive, send_and_leave)
        finally:
            leave()
