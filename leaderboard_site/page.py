"""The page at `/`: the board as it is now, which its script then keeps live through the socket."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from scores import selectors
from scores.exceptions import Unavailable

# Everything from here, nothing inline: a user id that slipped through as markup would still do nothing.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def board(request: HttpRequest) -> HttpResponse:
    try:
        page = await selectors.top()
    except Unavailable:
        page = None
    response = render(request, "board.html", {"page": page}, status=200 if page else 503)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "no-cache"
    return response
