"""Errors as RFC 9457 problem details. Raised where they occur, rendered only here.

    {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "…", "code": "points_is_text"}

`detail` is for people; `code` is stable, for programs; `errors` maps fields to messages, if the error is in a field.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import ExpiredTokenError, InvalidToken

from scores.access.authentication import REALM, InsufficientScope, TokenExpired, TokenInvalid
from scores.exceptions import (
    DATABASE_AWAY,
    BoardFixed,
    BoardInvalid,
    BoardUnknown,
    KeyReused,
    Malformed,
    NoStoreAnswers,
    NotYet,
    OnlyServices,
    PeriodInvalid,
    PeriodNotClosed,
    PeriodUnknown,
    Refused,
    RefusedBefore,
    ScoreError,
    ScoreOutOfRange,
    ServiceHasNoScore,
    TokenRevoked,
    TotalOutOfRange,
    Unavailable,
    UnknownAction,
    UnknownEvent,
    UserBlocked,
    UserInactive,
)

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
INTERNAL_ERROR = "Something went wrong on the server. The error has been logged."

STATUS: dict[type[ScoreError], HTTPStatus] = {
    Malformed: HTTPStatus.BAD_REQUEST,
    TokenRevoked: HTTPStatus.UNAUTHORIZED,
    ServiceHasNoScore: HTTPStatus.FORBIDDEN,
    UserBlocked: HTTPStatus.FORBIDDEN,
    UserInactive: HTTPStatus.FORBIDDEN,
    OnlyServices: HTTPStatus.FORBIDDEN,
    BoardUnknown: HTTPStatus.NOT_FOUND,
    UnknownEvent: HTTPStatus.NOT_FOUND,
    KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    ScoreOutOfRange: HTTPStatus.BAD_REQUEST,
    TotalOutOfRange: HTTPStatus.BAD_REQUEST,
    UnknownAction: HTTPStatus.BAD_REQUEST,
    NotYet: HTTPStatus.TOO_MANY_REQUESTS,
    BoardInvalid: HTTPStatus.BAD_REQUEST,
    PeriodInvalid: HTTPStatus.BAD_REQUEST,
    PeriodUnknown: HTTPStatus.NOT_FOUND,
    PeriodNotClosed: HTTPStatus.NOT_FOUND,
    Refused: HTTPStatus.CONFLICT,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
# Replaces codes of DRF that say less than the status line.
CODES = {"error": "internal_error", "invalid": "invalid_body", "null": "invalid_body", "parse_error": "invalid_json"}


def problem(status: int, code: str, detail: str, **members: Any) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
        **members,
    }


def problem_response(
    status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> HttpResponse:
    """A problem as a Django response, outside of DRF."""
    body = json.dumps(problem(status, code, detail, **members), ensure_ascii=False)
    return HttpResponse(body, status=status, content_type=CONTENT_TYPE, headers=headers)


def short_problem(error: ScoreError) -> dict[str, Any]:
    """What a problem says of one change among many."""
    short: dict[str, Any] = {"status": int(status_of(error)), "code": error.code, "detail": str(error)}
    return short | {"retryAfter": error.retry_after_s} if isinstance(error, NotYet) else short


def status_of(error: ScoreError) -> HTTPStatus:
    kind = _kind_of(error.code) if isinstance(error, RefusedBefore) else type(error)
    return next(status for base, status in STATUS.items() if issubclass(kind, base))


def _kind_of(code: str, among: type[ScoreError] = Refused) -> type[ScoreError]:
    """The refusal that has this code; any, if none has it any more."""
    kinds = among.__subclasses__()
    return next((found for kind in kinds if (found := _kind_of(code, kind)).code == code), among)


async def send_response(
    response: HttpResponse, send: Callable[[Mapping[str, Any]], Awaitable[None]], *, kind: str = "http.response"
) -> None:
    """Send a complete response without cookies to an ASGI request, or to a handshake with its `kind` of event."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
    # RFC 9110, section 8.6: of 204 and 304 it would be the length of a body that is not sent.
    if response.status_code not in (204, 304) and not response.has_header("Content-Length"):
        headers.append((b"content-length", b"%d" % len(response.content)))
    await send({"type": f"{kind}.start", "status": response.status_code, "headers": headers})
    await send({"type": f"{kind}.body", "body": response.content, "more_body": False})


def handle_exception(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: the problem for `exc`, or `None` for an unexpected exception."""
    if isinstance(exc, DatabaseError):
        if not isinstance(exc, DATABASE_AWAY):
            # A constraint or trigger of somebody else's; a table or a right is missing.
            logger.warning("The database refuses a request: %s", type(exc.__cause__ or exc).__name__)
        exc = NoStoreAnswers()
    if isinstance(exc, ScoreError):
        status = status_of(exc)
        headers = {}
        if isinstance(exc, Unavailable):
            headers["Retry-After"] = str(RETRY_AFTER_S)
        elif isinstance(exc, (NotYet, RefusedBefore)) and exc.retry_after_s is not None:
            headers["Retry-After"] = str(exc.retry_after_s)
        elif isinstance(exc, TokenRevoked):
            headers["WWW-Authenticate"] = challenge_of_invalid_token(str(exc))
        return _response(problem(status, exc.code, str(exc), **_members(exc)), headers)
    if isinstance(exc, Http404):
        exc = exceptions.NotFound()
    elif isinstance(exc, PermissionDenied):
        exc = exceptions.PermissionDenied()
    elif isinstance(exc, InvalidToken):  # raised by simplejwt's views from the actual error
        exc = TokenExpired() if isinstance(exc.__context__, ExpiredTokenError) else TokenInvalid()
    if not isinstance(exc, exceptions.APIException):
        return None
    return _response(_problem_of(exc), _headers(exc))


def _problem_of(exc: exceptions.APIException) -> dict[str, Any]:
    if isinstance(exc, exceptions.ValidationError) and isinstance(exc.detail, dict):
        field, first = next(iter(exc.detail.items()))
        detail = _first(first)
        code = getattr(detail, "code", "invalid")
        if field != "non_field_errors":
            code = f"{field}_{code}"
        return problem(exc.status_code, CODES.get(code, code), str(detail), errors=exc.detail)
    detail = _first(exc.detail)
    code = getattr(detail, "code", exc.default_code)
    return problem(exc.status_code, CODES.get(code, code), str(detail))


def _members(exc: ScoreError) -> dict[str, Any]:
    """What a problem says of the fields that it is about."""
    if isinstance(exc, Malformed):
        return {"errors": {exc.of: [str(exc)]}} if exc.of else {}
    if isinstance(exc, BoardFixed):
        return {"errors": {field: ["This cannot be changed any more."] for field in exc.fields}}
    if not isinstance(exc, BoardInvalid):
        return {}
    errors: dict[str, list[str]] = {}
    for mistake in exc.mistakes:
        errors.setdefault(mistake.field, []).append(mistake.sentence)
    mistakes = [{"field": m.field, "code": m.code, "detail": m.sentence} for m in exc.mistakes]
    return {"errors": errors, "mistakes": mistakes}


def _first(detail: Any) -> Any:
    """The first message in DRF's nested lists and dicts."""
    while isinstance(detail, (list, dict)) and detail:
        detail = next(iter(detail.values())) if isinstance(detail, dict) else detail[0]
    return detail


def _headers(exc: exceptions.APIException) -> dict[str, str]:
    if exc.status_code == HTTPStatus.UNAUTHORIZED:
        # RFC 6750, section 3: no error code if the request has no token
        if isinstance(exc, (TokenExpired, TokenInvalid)):
            return {"WWW-Authenticate": challenge_of_invalid_token(str(exc.detail))}
        return {"WWW-Authenticate": f'Bearer realm="{REALM}"'}
    if isinstance(exc, InsufficientScope):  # RFC 6750, section 3.1
        return {"WWW-Authenticate": f'Bearer realm="{REALM}", error="insufficient_scope", scope="{exc.scope}"'}
    return getattr(exc, "headers", {})


def challenge_of_invalid_token(description: str) -> str:
    return f'Bearer realm="{REALM}", error="invalid_token", error_description="{description}"'


def _response(body: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)
