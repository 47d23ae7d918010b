"""What pages of other origins may read: every response of the application, those that no view has given too."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from scores.api import problems

from .handlers import is_ours

ALLOWED = b"access-control-allow-origin"
VARIES = [(b"vary", b"origin")]  # a cache must not give a page of one origin what another was given


class CrossOrigin:
    """Answers preflights, and adds the headers of CORS to the responses of `app`, except to static files.

    Those are for everybody, and say so themselves.

    As Django's middleware it missed what is answered before Django: a page of another origin saw a network error instead
    of a 503 with its `Retry-After`, or a 413.
    """

    def __init__(self, app: Application) -> None:
        self.app = app
        self._middleware = CorsMiddleware(lambda request: HttpResponse())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(settings.STATIC_URL):
            return await self.app(scope, receive, send)
        added = VARIES
        if any(name == b"origin" for name, _ in scope["headers"]):
            request = ASGIRequest(scope, BytesIO())
            preflight = self._middleware.check_preflight(request)
            if isinstance(preflight, HttpResponse) and is_sound(request):
                self._middleware.add_response_headers(request, preflight)
                return await problems.send_response(preflight, send)
            carrier = self._middleware.add_response_headers(request, HttpResponse())
            del carrier["Content-Type"]
            added = [(name.lower().encode(), value.encode("latin-1")) for name, value in carrier.items()]

        async def send_with_headers(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if not any(name.lower() == ALLOWED for name, _ in headers):  # the schema is for everybody too
                    message = {**message, "headers": [*headers, *added]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


def is_sound(preflight: ASGIRequest) -> bool:
    """Whether it is for this host and has no body, as those of browsers; if not, `app` says what is wrong."""
    has_body = "transfer-encoding" in preflight.headers or preflight.headers.get("content-length", "0") != "0"
    return not has_body and is_ours(preflight.META.get("HTTP_HOST", ""))
