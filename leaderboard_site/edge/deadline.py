"""A deadline for views that block: PostgreSQL may be paused (SIGSTOP), and then a query never times out by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpResponse

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from scores.api import problems

ANSWER_S = 1.8
MAX_WAITING = 64  # each holds a thread until the database answers


class Deadline:
    """Answers 503 if `app` has not begun its response within `answer_s`, or if `MAX_WAITING` requests wait already.

    The thread behind `app` cannot be interrupted: it runs on, and its late response is dropped.
    """

    def __init__(
        self,
        app: Application,
        *,
        answer_s: float = ANSWER_S,
        refusal: Callable[..., HttpResponse] = problems.problem_response,
    ) -> None:
        self.app = app
        self.answer_s = answer_s
        self.refusal = refusal
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = late = False

        async def send_in_time(message: Mapping[str, Any]) -> None:
            nonlocal begun
            if not late:
                begun = True
                await send(message)

        if len(self._running) >= MAX_WAITING:
            return await self._refuse(send)
        task = asyncio.ensure_future(self.app(scope, receive, send_in_time))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait({task}, timeout=self.answer_s)
        if begun or task.done():
            return await task
        late = True
        await self._refuse(send)

    async def _refuse(self, send: Send) -> None:
        headers = {"Retry-After": str(problems.RETRY_AFTER_S)}
        detail = "The service cannot answer right now. Try again in a moment."
        await problems.send_response(self.refusal(503, "unavailable", detail, headers=headers), send)
