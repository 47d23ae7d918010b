"""The response of Django's own pages to what is no mistake of ours: a 503, 409 or 400 that says so, not a 500."""

from __future__ import annotations

from collections.abc import Callable

from django.db import DataError
from django.http import HttpRequest, HttpResponse

from scores.api.problems import RETRY_AFTER_S
from scores.exceptions import DATABASE_AWAY, Overloaded, is_conflict

from .errors import page_response

ADMIN = "/admin/"
CONFLICT = "Somebody else changed or deleted the same thing at this moment. Look at what is there now, and try again."


def is_of_a_value(exception: Exception) -> bool:
    """Whether a value that somebody sent is the cause: NUL, text for a number, a broken expression, a year too far away.

    The admin hands what is in its addresses and lists to the database, in more places than can be guarded one by one.
    """
    if isinstance(exception, (DataError, OverflowError)):
        return True
    return isinstance(exception, ValueError) and any(
        words in str(exception) for words in ("expected a number", "out of range")
    )


class OutageMiddleware:
    """Answers 503 with Retry-After if a view fails because the database does not answer, or too many hash passwords.

    In the admin also 400 for a value that the database refuses, and 409 for a change that it refuses because of another.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, DATABASE_AWAY):
            text = "The database does not answer right now. Please try again in a moment."
        elif isinstance(exception, Overloaded):
            text = str(exception)
        elif is_of_a_value(exception) and request.path_info.startswith(ADMIN):
            return page_response(400, "bad_request", "The request has a value that cannot be looked up.")
        elif is_conflict(exception) and request.path_info.startswith(ADMIN):
            return page_response(409, "conflict", CONFLICT)
        else:
            return None
        return HttpResponse(
            f"{text}\n",
            status=503,
            content_type="text/plain; charset=utf-8",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
