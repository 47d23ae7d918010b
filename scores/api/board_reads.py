"""The API of boards for whoever looks at them: a page of a period, a user's place, and the periods there are."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from django.http import HttpResponse
from rest_framework.exceptions import NotAuthenticated, NotFound, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from scores import board_selectors, metrics, selectors
from scores.access.authentication import TokenAuthentication
from scores.board_selectors import FOREVER, BoardPage, score_of
from scores.boards.catalogue import DATE, Span
from scores.boards.documents import RESERVED, text_of
from scores.exceptions import PeriodInvalid, PeriodUnknown
from scores.log import refusals
from scores.models import Board
from scores.selectors import Page

from .async_view import AsyncView, encode, json_response
from .raw_path import segment_after
from .views import freshness, matches, page_parameters

WORDS = {"1": True, "true": True, "": False, "0": False, "false": False}
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
    page = await board_selectors.page(board, asked, limit, offset)
    is_private = await admit(request, page.board)
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
    whole = about(board, period) | body | {"total": answer.total, "seq": answer.seq}
    text = encode(whole).encode()
    etag = f'"{board}-{answer.epoch}-{period.number}-{answer.seq}-{tag}-{crc32(text):08x}"'
    headers = freshness(answer) | {"ETag": etag, "Cache-Control": "private, no-cache" if is_private else "no-cache"}
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
    if asked in ("current", "1") or DATE.fullmatch(asked):
        return
    raise PeriodUnknown if asked == "previous" or asked.isdecimal() else PeriodInvalid


async def admit(request: Request, board: Board) -> bool:
    """Whether the board is private, and its reader has a token that is still good; raises if it is not.

    A public board needs no token, and a stale one is no hindrance.
    """
    if board.is_public:
        return False
    if (found := token_authentication.authenticate(request)) is None:
        raise NotAuthenticated
    principal, _ = found
    await refusals.admit(principal.user_id, principal.token)
    return True


class BoardPeriodsView(AsyncView):
    """The periods of a board that have begun, the newest first."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    async def get(self, request: Request, board: str) -> HttpResponse:
        limit, offset = page_parameters(request)
        if board == RESERVED:
            return json_response({"board": board, "periods": [shown(FOREVER)][offset : offset + limit]}, {})
        found = await board_selectors.periods(board, limit, offset)
        await admit(request, found.board)
        return json_response({"board": board, "periods": [shown(period) for period in found.periods]}, {})


def shown(period: Span) -> dict[str, Any]:
    return {
        "period": period.number,
        "startsAt": text_of(period.starts_at),
        "endsAt": text_of(period.ends_at),
        "closedAt": text_of(period.closed_at),
        "isCurrent": period.last_seq is None,
    }


class NotOnBoard(NotFound):
    default_code = "no_score"
    default_detail = "This user has no score on the board in this period."

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self.headers = headers


class BoardUserView(AsyncView):
    """The place of one user in a period of a board."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    async def get(self, request: Request, board: str, user_id: str) -> HttpResponse:
        found = segment_after(request, "users", behind=0)
        if found is None:
            raise NotFound("There is nothing at this address.")
        asked = request.query_params.get("period") or "current"
        with_event = with_metadata(request)
        if board == RESERVED:
            must_be_forever(asked)
            return await respond_with_default_place(found)
        page = await board_selectors.place(board, asked, found, with_event=with_event)
        await admit(request, page.board)
        if not page.entries:
            raise NotOnBoard(freshness(page))
        body = about(board, page.period) | row(page, 0) | {"total": page.total, "seq": page.seq}
        if page.reached_with is not None:
            metadata = page.reached_with.metadata
            body |= {"eventId": str(page.reached_with.seq), "metadata": json.loads(metadata) if metadata else None}
        return json_response(body, freshness(page))


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
