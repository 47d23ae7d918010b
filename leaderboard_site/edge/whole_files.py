"""Static files as responses with a body, which an event loop can send."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase


class WholeFiles:
    """Reads the file of a response that streams it from a thread.

    In an event loop, Django would read it whole as well, but find out by an exception, which leaves the file and the
    request to the garbage collector. The largest file here has 300 KB.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not isinstance(response, StreamingHttpResponse) or response.is_async:
            return response
        body = b"".join(cast("Iterable[bytes]", response.streaming_content))
        response.close()
        return HttpResponse(body, status=response.status_code, headers=dict(response.items()))
