"""A deadline for views that block: PostgreSQL may be paused (SIGSTOP), and then a query never times out by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpResponse

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from scores.api import answer, problems
from scores.api.answer import Answer
from scores.exceptions import OutcomeUnknown, Overloaded

ANSWER_S = 1.8
COMMIT_S = 1.0  # more, for a commit that has begun: its outcome is worth waiting for
LOOK_AGAIN_S = 0.05  # at least, after the clock stood still
MAX_WAITING = 64  # each holds a thread until the database answers


class Deadline:
    """Answers 503 if `app` has not begun its response within `answer_s`, or if `max_waiting` requests wait already.

    What `app` says does not count (`Answer.not_counted`) comes on top of that.

    Who has begun to respond waits no longer: a client that does not read could keep a place for half a minute.

    The thread behind `app` cannot be interrupted: it runs on, and its late response is dropped. A view that commits
    with `answer.committed_in_time` commits nothing after that 503. If its commit has begun by then, the response may
    take `COMMIT_S` longer; then it is a 503 `outcome_unknown`.
    """

    def __init__(
        self,
        app: Application,
        *,
        answer_s: float = ANSWER_S,
        max_waiting: int = MAX_WAITING,
        refusal: Callable[..., HttpResponse] = problems.problem_response,
    ) -> None:
        self.app = app
        self.answer_s = answer_s
        self.max_waiting = max_waiting
        self.refusal = refusal
        self._waiting: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = late = False

        async def send_in_time(message: Mapping[str, Any]) -> None:
            nonlocal begun
            if not late:
                begun = True
                self._waiting.discard(task)
                await send(message)

        def answered() -> bool:
            return begun or task.done()

        if len(self._waiting) >= self.max_waiting:
            return await self._refuse(send, Overloaded.code, Overloaded.message)
        due = Answer(time.monotonic() + self.answer_s)
        token = answer.current.set(due)  # the task copies it, and Django's threads copy it from the task
        task = asyncio.ensure_future(self.app(scope, receive, send_in_time))
        answer.current.reset(token)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        left_s = self.answer_s
        while not answered() and left_s > 0:
            await asyncio.wait({task}, timeout=max(left_s, LOOK_AGAIN_S))
            left_s = due.left_s
        if answered():
            return await task
        if due.refuse():
            late = True
            return await self._refuse(send)
        await asyncio.wait({task}, timeout=COMMIT_S)
        if answered():
            return await task
        late = True
        detail = "No confirmation came in time: it may have happened. Try again."
        await self._refuse(send, OutcomeUnknown.code, detail)

    async def _refuse(
        self,
        send: Send,
        code: str = "unavailable",
        detail: str = "The service cannot answer right now. Try again in a moment.",
    ) -> None:
        headers = {"Retry-After": str(problems.RETRY_AFTER_S)}
        await problems.send_response(self.refusal(503, code, detail, headers=headers), send)
