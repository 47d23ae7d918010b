"""Answers for whoever restarts or routes around this process. Outside of Django: any Host may ask, and often."""

from __future__ import annotations

import json

from leaderboard_site.asgi_types import Receive, Scope, Send
from leaderboard_site.version import VERSION
from scores.projection.tail import tail
from scores.stores.redis import breaker

from .drain import drain
from .pending_migrations import migrations

PREFIX = "/healthz/"
DATABASE_MAY_BE_AWAY_S = 5.0


async def health(scope: Scope, receive: Receive, send: Send) -> None:
    """`/healthz/live`: the process answers with its version. `/healthz/ready`: it can serve, or 503 and why not."""
    name = scope["path"].removeprefix(PREFIX)
    if name == "live":  # touches nothing: a process that only waits for a store must not be restarted
        status, said = 200, {"status": "ok", "version": VERSION}
    elif name == "ready":
        status, word = await readiness()
        said = {"status": word}
    else:
        status, said = 404, {"status": "unknown"}
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def readiness() -> tuple[int, str]:
    if drain.begun:
        return 503, "draining"
    if (current := await migrations.are_applied()) is False:
        return 503, "migrations missing"
    if current is None or tail.age_s > DATABASE_MAY_BE_AWAY_S:
        return 503, "database away"
    return 200, "degraded" if breaker.is_open else "ok"
