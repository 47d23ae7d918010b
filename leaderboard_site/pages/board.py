"""The page at `/`: the board as it is now, which its scripts then keep live through the socket.

`?view=wall` is the page for a large screen: the top 10 in large type, without controls.
"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from scores import selectors
from scores.exceptions import Unavailable

# Only files of this site, nothing inline: a user id that got through as markup could still run nothing.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LONG = 10**10  # scores from here on need a wider column; live-leaderboard.js has the same number


@require_safe
async def board(request: HttpRequest) -> HttpResponse:
    try:
        page = await selectors.top()
    except Unavailable:
        page = None
    most = page.entries[0].score if page and page.entries else 0
    context = {
        "page": page,
        # The length of the line under a row, in percent of the first row's.
        "lines": [(entry, f"{100 * entry.score / most if most else 0:.2f}") for entry in page.entries] if page else [],
        "long": most >= LONG,
        "wall": request.GET.get("view") == "wall",
        "prefix": settings.URL_PREFIX,
        "registration": settings.REGISTRATION,
        "play_area": settings.PLAY_AREA,
    }
    response = render(request, "board.html", context, status=200 if page else 503)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "no-cache"
    return response
