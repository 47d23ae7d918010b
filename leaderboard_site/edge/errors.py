"""Responses of Django's own handler when no view answered: a problem below /api/, Django's default page elsewhere."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views import defaults

from scores.api import problems

API = "/api/"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """For example, a Host that ALLOWED_HOSTS does not name."""
    if request.path_info.startswith(API):
        return problems.problem_response(400, "bad_request", str(exception))
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django has logged the exception before it calls this."""
    if request.path_info.startswith(API):
        return problems.problem_response(500, "internal_error", problems.INTERNAL_ERROR)
    return defaults.server_error(request)
