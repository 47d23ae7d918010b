"""The page at `/`: the board as it is now, which its scripts then keep live through the socket.

`?view=wall` is the same for a wall: the top 10 in large type, and nothing to press.
"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from scores import selectors
from scores.exceptions import Unavailable

# Everything from here, nothing inline: a user id that slipped through as markup would still do nothing.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LONG = 10**10  # scores from here on need a wider column; live-leaderboard.js knows the same number


async def board(request: HttpRequest) -> HttpResponse:
    try:
        page = await selectors.top()
    except Unavailable:
        page = None
    most = page.entries[0].score if page and page.entries else 0
    context = {
        "page": page,
        # How long the line under a row is, in percent of the first one's.
        "lines": [(entry, f"{100 * entry.score / most if most else 0:.2f}") for entry in page.entries] if page else [],
        "long": most >= LONG,
        "wall": request.GET.get("view") == "wall",
        "registration": settings.REGISTRATION,
        "play_area": settings.PLAY_AREA,
    }
    response = render(request, "board.html", context, status=200 if page else 503)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "no-cache"
    return response
