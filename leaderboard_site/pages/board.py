"""The page at `/`: the board as it is now, which its scripts then keep live through the socket.

`?view=wall` is the page for a large screen: the top 10 in large type, without controls. `?board=weekly` shows another
public board; if there is no such board, a sentence says so above the default one.
"""

from __future__ import annotations

from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from scores import board_selectors, selectors
from scores.board_selectors import BoardPage, score_of
from scores.exceptions import BoardUnknown, PeriodUnknown, Unavailable
from scores.models import RESERVED
from scores.selectors import Page

# Only files of this site, nothing inline: a user id that got through as markup could still run nothing.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TOP = 10
LONG = 10**10  # scores from here on need a wider column; live-leaderboard.js has the same number


@require_safe
async def board(request: HttpRequest) -> HttpResponse:
    name = request.GET.get("board") or RESERVED
    page: Page | BoardPage | None
    try:
        page = await page_of(name) or await selectors.top()
    except Unavailable:
        page = None
    rows = rows_of(page) if page else []
    first = rows[0].score if rows else 0
    context = {
        "page": page,
        "board": name if isinstance(page, BoardPage) else None,
        "missing": name if isinstance(page, Page) and name != RESERVED else None,
        "lines": [(row, f"{100 * share(row.score, first):.2f}") for row in rows],
        "long": any(abs(row.score) >= LONG for row in rows),
        "wall": request.GET.get("view") == "wall",
        "prefix": settings.URL_PREFIX,
        "registration": settings.REGISTRATION,
        "play_area": settings.PLAY_AREA,
    }
    response = render(request, "board.html", context, status=200 if page else 503)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "no-cache"
    return response


class Row(NamedTuple):
    rank: int
    user_id: str
    score: int


async def page_of(name: str) -> BoardPage | None:
    """The current period of a public board beside the default one, if there is one of this name."""
    if name == RESERVED:
        return None
    try:
        page = await board_selectors.page(name, "current", TOP, 0)
    except (BoardUnknown, PeriodUnknown):
        return None
    return page if page.board.is_public else None


def rows_of(page: Page | BoardPage) -> list[Row]:
    if isinstance(page, BoardPage):
        return [Row(entry.rank, entry.user_id, score_of(page.board, entry)) for entry in page.entries]
    return [Row(entry.rank, entry.user_id, entry.score) for entry in page.entries]


def share(score: int, first: int) -> float:
    """The length of the line under a row, as a part of the first row's; live-leaderboard.js has the same rule."""
    return min(score, first) / max(score, first) if score > 0 and first > 0 else 0
