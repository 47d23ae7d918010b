"""The API of boards for whoever looks at them: a page of a period, a user's place, and the periods there are."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, TypeVar
from zlib import crc32

from django.http import HttpResponse
from rest_framework.exceptions import NotAuthenticated, NotFound, ValidationError
from rest_framework.request import Request

from scores import board_selectors, metrics, selectors
from scores.access.authentication import TokenAuthentication, key_fetched
from scores.board_results import Results
from scores.board_selectors import FOREVER, BoardPage, BoardPeriods, score_of
from scores.boards.catalogue import NUMBER, Span, day_of
from scores.boards.documents import text_of
from scores.exceptions import BoardUnknown, KeyAwaited, PeriodUnknown, ScoreError
from scores.log import refusals
from scores.models import RESERVED, Board
from scores.selectors import Page

from .async_view import AsyncView, encode, json_response
from .headers import freshness, position
from .raw_path import segment_after
from .views import matches, page_parameters

WORDS = {"1": True, "true": True, "": False, "0": False, "false": False}
PRIVATE = {"Cache-Control": "private, no-cache"}
Seen = TypeVar("Seen", BoardPage, BoardPeriods, Results)
token_authentication = TokenAuthentication()


async def respond_with_board(request: Request, board: str) -> HttpResponse:
    """A page of a period of a board; the default board is one of them."""
    limit, offset = page_parameters(request)
    asked = request.query_params.get("period") or "current"
    if board == RESERVED:
        must_be_forever(asked)
        top = await selectors.top(limit, offset)
        rows = [
            {"rank": entry.rank, "position": position, "userId": entry.user_id, "score": entry.score}
            for position, entry in enumerate(top.entries, offset + 1)
        ]
        return respond(request, top, board, FOREVER, {"leaderboard": rows}, tag=f"{limit}-{offset}")
    page = await seen_by(request, board, board_selectors.page(board, asked, limit, offset))
    is_private = not page.board.is_public
    rows = [row(page, n) for n in range(len(page.entries))]
    return respond(
        request, page, board, page.period, {"leaderboard": rows}, tag=f"{limit}-{offset}", is_private=is_private
    )


def row(page: BoardPage, n: int) -> dict[str, Any]:
    entry = page.entries[n]
    return {
        "rank": entry.rank,
        "position": entry.position,
        "userId": entry.user_id,
        "score": score_of(page.board, entry),
    }


def respond(
    request: Request,
    answer: Page | BoardPage,
    board: str,
    period: Span,
    body: dict[str, Any],
    *,
    tag: str,
    is_private: bool = False,
) -> HttpResponse:
    """200 with the page, or 304 for a client that has it. The tag knows board and period: two may be as of one event."""
    whole = about(board, period) | {"isCurrent": period.is_current} | body | {"total": answer.total, "seq": answer.seq}
    text = encode(whole).encode()
    etag = f'"{board}-{answer.epoch}-{period.number}-{answer.seq}-{tag}-{crc32(text):08x}"'
    headers = freshness(answer) | {"ETag": etag, **(PRIVATE if is_private else {"Cache-Control": "no-cache"})}
    if matches(etag, request.META.get("HTTP_IF_NONE_MATCH", "")):
        metrics.reads_not_modified.inc()
        response = HttpResponse(status=304, headers=headers)
        del response["Content-Type"]  # Django's default, although there is no body
        return response
    return HttpResponse(text, content_type="application/json", headers=headers)


def about(board: str, period: Span) -> dict[str, Any]:
    """What every answer about a board begins with. Times are ISO 8601, in UTC."""
    return {
        "board": board,
        "period": period.number,
        "startsAt": text_of(period.starts_at),
        "endsAt": text_of(period.ends_at),
    }


def must_be_forever(asked: str) -> None:
    """The default board has one period, which has no end."""
    if asked in ("current", "1"):
        return
    if asked == "previous" or NUMBER.fullmatch(asked):
        raise PeriodUnknown
    day_of(asked)


async def seen_by(request: Request, board: str, answer: Awaitable[Seen]) -> Seen:
    """The answer, for whoever may see the board. Others learn nothing about it: not even which periods it has."""
    try:
        found = await answer
    except BoardUnknown:
        raise
    except ScoreError:
        await admit(request, await board_selectors.definition(board))
        raise
    await admit(request, found.board)
    return found


async def admit(request: Request, board: Board) -> None:
    """Raises unless the board is public, or its reader has a token that is still good.

    A public board needs no token, and a stale one is no hindrance.
    """
    if board.is_public:
        return
    try:
        found = token_authentication.authenticate(request)
    except KeyAwaited:
        await key_fetched()
        found = token_authentication.authenticate(request)
    if found is None:
        raise NotAuthenticated
    principal, _ = found
    await refusals.admit(principal.user_id, principal.token)


def privacy(board: Board) -> dict[str, str]:
    """The header that keeps what not everybody may see out of shared caches."""
    return {} if board.is_public else PRIVATE


class OpenView(AsyncView):
    """Looks at no token by itself. It has its authenticators all the same: they make a refusal a 401 with a challenge."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        pass


class BoardPeriodsView(OpenView):
    """The periods of a board that have begun, the newest first."""

    async def get(self, request: Request, board: str) -> HttpResponse:
        limit, offset = page_parameters(request)
        if board == RESERVED:
            body = {"board": board, "periods": [shown(FOREVER)][offset : offset + limit]}
            top = await selectors.top(1)  # which says where it is
            return json_response(body, position(top.epoch, top.seq))
        found = await seen_by(request, board, board_selectors.periods(board, limit, offset))
        periods = [shown(period) for period in found.periods]
        headers = position(found.head.origin, found.head.seq) | privacy(found.board)
        return json_response({"board": board, "periods": periods}, headers)


def shown(period: Span) -> dict[str, Any]:
    return {
        "period": period.number,
        "startsAt": text_of(period.starts_at),
        "endsAt": text_of(period.ends_at),
        "closedAt": text_of(period.closed_at),
        "isCurrent": period.is_current,
    }


class NotOnBoard(NotFound):
    default_code = "no_score"
    default_detail = "This user has no score on the board in this period."

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self.headers = headers


class BoardUserView(OpenView):
    """The place of one user in a period of a board."""

    async def get(self, request: Request, board: str, user_id: str) -> HttpResponse:
        return await respond_with_place(request, board)


async def respond_with_place(request: Request, board: str) -> HttpResponse:
    """The place of the user that the path ends with."""
    user_id = segment_after(request, "users", behind=0)
    if user_id is None:
        raise NotFound("There is nothing at this address.")
    asked = request.query_params.get("period") or "current"
    with_event = with_metadata(request)
    if board == RESERVED:
        must_be_forever(asked)
        return await respond_with_default_place(user_id)
    page = await seen_by(request, board, board_selectors.place(board, asked, user_id, with_event=with_event))
    headers = freshness(page) | privacy(page.board)
    if not page.entries:
        raise NotOnBoard(headers)
    body = about(board, page.period) | row(page, 0) | {"total": page.total, "seq": page.seq}
    if page.reached_with is not None:
        metadata = page.reached_with.metadata
        body |= {"eventId": str(page.reached_with.seq), "metadata": json.loads(metadata) if metadata else None}
    return json_response(body, headers)


async def respond_with_default_place(user_id: str) -> HttpResponse:
    place = await selectors.place(user_id)
    if place.entry is None:
        raise NotOnBoard(freshness(place))
    entry = place.entry
    about_user = {"rank": entry.rank, "position": entry.position, "userId": user_id, "score": entry.score}
    body = about(RESERVED, FOREVER) | about_user | {"total": place.total, "seq": place.seq}
    return json_response(body, freshness(place))


def with_metadata(request: Request) -> bool:
    """Whether `metadata` of the query string asks for it."""
    value = request.query_params.get("metadata", "")
    if value not in WORDS:
        raise ValidationError({"metadata": ["Expected 1 or 0."]}, "not_a_choice")
    return WORDS[value]
