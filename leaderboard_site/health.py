"""Answers for whoever restarts or routes around this process. Outside of Django: any Host may ask, nothing is touched."""

from __future__ import annotations

import json

from scores import leaderboard
from scores.tail import tail

from .interface import Receive, Scope, Send

PREFIX = "/healthz/"
DATABASE_MAY_BE_AWAY_S = 5.0


async def health(scope: Scope, receive: Receive, send: Send) -> None:
    """`/healthz/live`: the process answers. `/healthz/ready`: it can serve; 503 when the database has been away for 5 s."""
    status, word = _answer(scope["path"].removeprefix(PREFIX))
    body = json.dumps({"status": word}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _answer(name: str) -> tuple[int, str]:
    if name == "live":
        return 200, "ok"
    if name != "ready":
        return 404, "unknown"
    if tail.age_s > DATABASE_MAY_BE_AWAY_S:
        return 503, "database away"
    return 200, "degraded" if leaderboard.breaker.is_open else "ok"
