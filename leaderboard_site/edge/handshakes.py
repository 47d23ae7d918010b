"""How often an address may try to open a socket: a handshake costs a thousand times as much as a frame."""

from __future__ import annotations

from django.conf import settings

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from scores.access.client_address import rate_limit_key
from scores.access.limiter import Verdict, batcher
from scores.access.sliding_window import Hit
from scores.access.throttling import limit_headers
from scores.api import problems
from scores.exceptions import Unavailable
from scores.stores.batcher import Batcher

NAME = "handshakes"


class HandshakeLimit:
    """Answers 429 instead of `app` beyond HANDSHAKE_RATE_LIMIT, and 503 while `judges` cannot say."""

    def __init__(self, app: Application, judges: Batcher[Hit, Verdict] = batcher) -> None:
        self.app = app
        self.judges = judges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rate = settings.HANDSHAKE_RATE_LIMIT
        if rate is None:
            return await self.app(scope, receive, send)
        client = scope["client"]
        try:
            verdict = await self.judges.submit(Hit(NAME, rate_limit_key(client[0] if client else ""), rate))
        except Unavailable:
            headers = {"Retry-After": str(problems.RETRY_AFTER_S)}
            detail = "Too many sockets are opening right now. Try again in a moment."
            answer = problems.problem_response(503, Unavailable.code, detail, headers=headers)
        else:
            if verdict.admitted:
                return await self.app(scope, receive, send)
            detail = f"Too many new connections, try again in {verdict.wait_s} s."
            answer = problems.problem_response(429, "rate_limited", detail, headers=limit_headers(NAME, rate, verdict))
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            return await send({"type": "websocket.close"})  # this server can only answer 403
        await problems.send_response(answer, send, kind="websocket.http.response")
