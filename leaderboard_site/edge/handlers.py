"""How HTTP reaches the views: a lean handler for the scores API, and a limit on bodies before anything parses them.

Django's ASGI handler opens a thread pool per request and hops threads for its signals, for each sync middleware and to
close the response: about 2.5 ms for a view that does nothing, against 0.2 ms here. See docs/adr/0006.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from django.conf import settings
from django.core.exceptions import SuspiciousOperation, TooManyFieldsSent
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.urls import ResolverMatch, get_resolver

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from leaderboard_site.observability.tracing import REQUEST
from scores.api import problems

logger = logging.getLogger(__name__)

MAX_BYTES = 16 * 1024  # of a body for the API
MAX_FORM_BYTES = 1024 * 1024  # in the admin, whose longest forms send a line per row
MAX_REMEMBERED = 256  # characters of a path: a stranger chooses what is remembered, and a path may have 64 KiB
REPLACED = "\ufffd"  # what servers make of bytes that are not UTF-8
MAX_HOST = 255  # characters (RFC 1035, section 2.3.4)
RECEIVE_S = 10.0  # for a whole body: a client that needs longer for 16 KiB only holds a connection


class LeanHandler(ASGIHandler):
    """Serves async views that use no database connection in their thread and need no middleware.

    It leaves out of `ASGIHandler`: the thread pool per request, the request signals (their receivers only maintain the
    database connections of this thread, which has none), sync middleware, deferred rendering, and the watch for a
    client that disconnects (an increment under way is finished anyway).
    """

    def load_middleware(self, is_async: bool = True) -> None:
        """None is needed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] != "http.request":
            return
        try:
            if REPLACED in scope["path"]:
                look_at_bytes(scope)
            request = scope[REQUEST] = ASGIRequest(scope, BytesIO(message["body"]))
            # A chunked body has no Content-Length, and DRF would treat the request as one without a body.
            request.META["CONTENT_LENGTH"] = str(len(message["body"]))
            if not is_ours(request.META.get("HTTP_HOST", "")):
                request.get_host()  # raises DisallowedHost, which says what is wrong
            response = await self._call_view(request)
        except TooManyFieldsSent:
            detail = f"An address has at most {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} parameters."
            response = problems.problem_response(400, "bad_request", detail)
        except SuspiciousOperation as error:  # DisallowedHost among them
            response = problems.problem_response(400, "bad_request", str(error))
        except UnicodeDecodeError:
            response = problems.problem_response(400, "bad_request", "The path is not percent-encoded UTF-8.")
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            response = problems.problem_response(500, "internal_error", problems.INTERNAL_ERROR)
        response["X-Content-Type-Options"] = "nosniff"
        await problems.send_response(response, send)  # Django's own also handles cookies and streams

    async def _call_view(self, request: HttpRequest) -> HttpResponse:
        path = request.path_info
        match = _match(path) if len(path) <= MAX_REMEMBERED else get_resolver().resolve(path)
        request.resolver_match = match
        response: HttpResponse = await match.func(request, *match.args, **match.kwargs)
        return response


def look_at_bytes(scope: Scope) -> None:
    """Raises `UnicodeDecodeError` for a path that is not UTF-8, which the server has replaced by what is.

    Two such paths can become the same, and be answered as if they were. The server need not tell the bytes (`raw_path`
    is optional in ASGI); no player's id has the character that replaces them.
    """
    unquote_to_bytes(scope.get("raw_path") or b"").decode()


@lru_cache(maxsize=1024)
def _match(path: str) -> ResolverMatch:
    """The view of a path. Cached, because most requests are for the same few paths."""
    return get_resolver().resolve(path)


def is_ours(host: str) -> bool:
    """Whether ALLOWED_HOSTS admits this Host."""
    return len(host) <= MAX_HOST and _is_admitted(host)


@lru_cache(maxsize=64)
def _is_admitted(host: str) -> bool:
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def names_one_host(scope: Scope, count: int) -> bool:
    """Whether a request with `count` Host headers is one of HTTP (RFC 9112, section 3.2). HTTP/1.0 needs none."""
    return count == 1 or (count == 0 and scope["http_version"] == "1.0")


class HostCheck:
    """Answers 400 instead of `app` to a request that does not say, or says twice, for which host it is."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not names_one_host(scope, [name for name, _ in scope["headers"]].count(b"host")):
            return await refuse_hosts(send)
        await self.app(scope, receive, send)


async def refuse_hosts(send: Send) -> None:
    await _refuse(send, 400, "bad_request", "A request of HTTP/1.1 has exactly one Host header.")


class BodyLimit:
    """Reads the whole body before `app` sees the request; answers 413 if it is too large and 408 if it is too slow.

    It passes over all headers anyway, and so does the work of `HostCheck` too.
    """

    def __init__(self, app: Application, *, max_bytes: int = MAX_BYTES) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = 0
        for name, value in scope["headers"]:
            if name == b"host":
                hosts += 1
            elif name == b"content-length" and value.isdigit() and int(value) > self.max_bytes:
                return await self._refuse_large(send)
            if (
                name == b"transfer-encoding" and value.strip().lower() != b"chunked"
            ):  # the server has undone the chunks alone
                return await _refuse(
                    send, 400, "bad_request", "The only Transfer-Encoding that is known here is chunked."
                )
        try:
            body = await _read_in_time(receive, self.max_bytes)
        except TimeoutError:
            return await _refuse(send, 408, "body_too_slow", f"The body did not arrive within {RECEIVE_S:g} s.")
        if body is None:
            return None  # the client disconnected
        if len(body) > self.max_bytes:
            return await self._refuse_large(send)
        if not names_one_host(scope, hosts):  # not before: a client that still sends would miss the answer
            return await refuse_hosts(send)
        whole = {"type": "http.request", "body": body, "more_body": False}
        unread = True

        async def replay() -> Mapping[str, Any]:
            nonlocal unread
            if unread:
                unread = False
                return whole
            return await receive()

        return await self.app(scope, replay, send)

    async def _refuse_large(self, send: Send) -> None:
        await _refuse(send, 413, "body_too_large", f"A body may have at most {self.max_bytes} bytes.")


async def _read_in_time(receive: Receive, max_bytes: int) -> bytes | None:
    """`_read`, or `TimeoutError` after `RECEIVE_S`. A bare timer: `asyncio.timeout` costs 4 % of an increment."""
    task = asyncio.current_task()
    assert task is not None  # a server runs each request in a task
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(RECEIVE_S, give_up)
    try:
        return await _read(receive, max_bytes)
    except asyncio.CancelledError:
        if late and task.uncancel() == 0:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


async def _read(receive: Receive, max_bytes: int) -> bytes | None:
    """Returns the body, or as much of it as shows that it is too large; `None` if the client disconnected."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return bytes(message.get("body", b""))  # the usual case: one message
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) > max_bytes:
            return bytes(body)
        message = await receive()
    return None


async def _refuse(send: Send, status: int, code: str, detail: str) -> None:
    # Without the close, the server would go on to read the rest of the body.
    await problems.send_response(problems.problem_response(status, code, detail, headers={"Connection": "close"}), send)
