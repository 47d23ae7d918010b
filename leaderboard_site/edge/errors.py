"""Responses of Django's own handler when no view answered: a problem below /api/, Django's default page elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.views import defaults

from scores.api import problems

from .policy import BARE_POLICY, HEADER

API = "/api/"


def page_response(status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A refusal as a page for people, with the arguments of a problem: `code` is for programs, and not shown."""
    context = {"title": HTTPStatus(status).phrase, "detail": detail}
    response = HttpResponse(render_to_string("refusal.html", context), status=status, headers=headers)
    response[HEADER] = BARE_POLICY
    return response


def late_page_response(
    status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """`page_response` for a page whose view goes on after it: whoever moderates must not do it twice."""
    detail += " What you asked for may have happened all the same: look before you repeat it."
    return page_response(status, code, detail, headers=headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """For example, a Host that ALLOWED_HOSTS does not name, or a form in a charset that Django does not read.

    Not Django's own page for it, which reads the form once more.
    """
    if request.path_info.startswith(API):
        return problems.problem_response(400, "bad_request", str(exception))
    return page_response(400, "bad_request", "The request cannot be read.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django has logged the exception before it calls this."""
    if request.path_info.startswith(API):
        return problems.problem_response(500, "internal_error", problems.INTERNAL_ERROR)
    return defaults.server_error(request)
