"""The id of a request: taken from the client or made here, sent back, and added to every log line of the request."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from itertools import count
from typing import Any

from django.http import HttpRequest, HttpResponse
from prometheus_client import Counter

from leaderboard_site.asgi_types import Application, Receive, Scope, Send

HEADER = b"x-request-id"
GOOD_ID = re.compile(rb"[A-Za-z0-9._~-]{1,64}")  # characters that are special to no log, shell or page
REQUEST = "leaderboard.request"  # the key in the scope of Django's request, once there is one

server_errors = Counter("leaderboard_server_errors", "Responses with a status of 500 and above, by status.", ["status"])

_current: ContextVar[Scope | None] = ContextVar("current request", default=None)
_ours = secrets.token_hex(4)  # of this process
_numbers = count(1)


class Tracing:
    """Gives every request to `app` an id, the client's own if it is valid, and counts responses of 500 and above.

    It wraps the whole application and is no Django middleware: half of the responses never pass through one.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope["request_id"] = _id_in(scope["headers"]) or b"%s-%x" % (_ours.encode(), next(_numbers))
        _current.set(scope)  # for the task that uvicorn makes for each request, and for the threads it awaits

        async def send_with_id(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                if message["status"] >= 500:
                    server_errors.labels(str(message["status"])).inc()
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, request_id)]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            scope.pop(REQUEST, None)  # the request holds the scope, and both would wait for the garbage collector


def _id_in(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == HEADER and GOOD_ID.fullmatch(value):
            return value
    return None


class TracingMiddleware:
    """Puts Django's request into the scope, so that log lines of Django's own handler have the user id too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        scope: Scope = getattr(request, "scope", {})
        scope[REQUEST] = request
        return self.get_response(request)


def add_request(logger: logging.Logger, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: adds the request's id, method, path and user to a line that is logged during a request."""
    scope = _current.get()
    if scope is not None:
        event["request_id"] = scope["request_id"].decode()
        event["request"] = f"{scope['method']} {scope['path']}"
        if user_id := _user_of(scope.get(REQUEST)):
            event["user_id"] = user_id
    return event


def _user_of(request: Any) -> str | None:
    """The user, if already known: to find out would take a query, too much for a log line."""
    known = vars(request) if request is not None else {}
    if principal := known.get("_cached_user"):  # of a session
        return str(principal.get_username()) or None
    user_id: str | None = getattr(known.get("user"), "user_id", None)  # of a token
    return user_id
