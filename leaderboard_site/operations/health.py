"""Liveness and readiness, for supervisors and load balancers. Outside Django: any Host may ask, and often."""

from __future__ import annotations

import json

from django.conf import settings

from leaderboard_site.asgi_types import Receive, Scope, Send
from leaderboard_site.version import VERSION
from realtime.hub import hub
from scores.log.writer import writer
from scores.projection.tail import tail
from scores.stores.redis import breaker

from .drain import drain
from .pending_migrations import migrations

PREFIX = f"{settings.URL_PREFIX}/healthz/"
DATABASE_MAY_BE_AWAY_S = 5.0


async def health(scope: Scope, receive: Receive, send: Send) -> None:
    """`/healthz/live`: 200 and the version. `/healthz/ready`: 200 if this process can serve, else 503 and why not.

    `/healthz` leads to the second: whoever leaves out the name asks whether the service is well.
    """
    name = scope["path"].removeprefix(PREFIX.rstrip("/")).strip("/")
    if not name:
        return await redirect(f"{PREFIX}ready", send)
    if name == "live":  # asks no store: a process that only waits for one must not be restarted
        status, content = 200, {"status": "ok", "version": VERSION}
    elif name == "ready":
        status, word = await readiness()
        content = {"status": word}
    else:
        status, content = 404, {"status": "unknown"}
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def redirect(path: str, send: Send) -> None:
    headers = [(b"location", path.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def readiness() -> tuple[int, str]:
    if drain.begun:
        return 503, "draining"
    if (current := await migrations.are_applied()) is False:
        return 503, "migrations missing"
    if current is None or tail.silence_s > DATABASE_MAY_BE_AWAY_S:
        return 503, "database away"
    if hub.fault is not None:
        return 503, "hub ended"
    return 200, "degraded" if breaker.is_open or writer.outage.recent else "ok"
