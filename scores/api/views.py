"""The HTTP API of the board. A view validates, calls and answers; `problems` renders errors."""

from __future__ import annotations

import re
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import get_resolver
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import NotFound, ParseError, PermissionDenied, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from scores import metrics, selectors, services
from scores.access.authentication import AuthenticatedRequest, InsufficientScope
from scores.access.throttling import IncrementThrottle, PlayerThrottle, Throttle
from scores.award import award
from scores.board import LEADERBOARD
from scores.entries import key_of
from scores.exceptions import ServiceHasNoScore, Unavailable
from scores.log import refusals
from scores.log.token_uses import token_uses
from scores.scopes import Scope
from scores.selectors import Page
from scores.user_id import is_player_id

from . import problems, queued
from .async_view import AsyncView, encode, json_response
from .headers import freshness, record_headers
from .serializers import PageSerializer

MAX_PER_PAGE = 100

# One instance, since each new serializer copies its fields; validation leaves no state in it.
PAGE = PageSerializer()


class IncrementView(AsyncView):
    throttle = IncrementThrottle()

    async def post(self, request: AuthenticatedRequest) -> HttpResponse:
        player = request.user
        if player.is_service:
            raise ServiceHasNoScore
        if queued.is_wanted(request):
            return await queued.respond_when_queued(player.user_id, *award_of(request), idempotency_key(request))
        return await respond_to_increment(request, player.user_id)


class UserIncrementView(AsyncView):
    """For a game server, which adds points for its players.

    An id may itself end as this address does. All methods but POST are about the user with that id, as at `UserView`.
    """

    throttle: Throttle = PlayerThrottle()

    def initial(self, request: AuthenticatedRequest, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Refuses before the throttle counts: whoever may not score for a player must not use up what limits it."""
        if request.method != "POST":  # needs no token, and a stale one is no hindrance
            self.throttle = UserView.throttle
            return
        super().initial(request, *args, **kwargs)
        if Scope.WRITE_ANY not in request.user.scopes:
            raise InsufficientScope(Scope.WRITE_ANY)
        if not is_player_id(kwargs["user_id"]):
            raise ParseError("This is not a valid id of a player.", "user_id_invalid")

    async def post(self, request: AuthenticatedRequest, user_id: str) -> HttpResponse:
        service = request.user
        response = await respond_to_increment(request, user_id, actor=service.user_id, token=service.token)
        token_uses.note(service.token)
        return response

    async def get(self, request: Request, user_id: str) -> HttpResponse:
        return await respond_with_standing(f"{user_id}/scores/increment")


async def respond_to_increment(
    request: AuthenticatedRequest, user_id: str, actor: str = "", token: str = ""
) -> HttpResponse:
    points, action = award_of(request)
    recorded = await services.increment(
        user_id=user_id,
        points=points,
        action=action,
        idempotency_key=idempotency_key(request),
        actor=actor,
        token=token,
    )
    return json_response({"success": True, "newScore": recorded.total}, record_headers(recorded))


def award_of(request: AuthenticatedRequest) -> tuple[int, str | None]:
    """The points and the action that are asked for. Raises `Malformed`, or `PointsNotAllowed`."""
    points, action = award(request.data)
    if action is None and settings.ACTIONS_ONLY and Scope.WRITE_ANY not in request.user.scopes:
        raise PointsNotAllowed
    return points, action


class PointsNotAllowed(PermissionDenied):
    default_code = "points_not_allowed"
    default_detail = "Only actions give points here."


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header: 1 to 255 visible ASCII characters, or `None`."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    return key if key is None else key_of(key)


UNANSWERED = "leaderboard.unanswered"  # in a scope: the `Unavailable` that a question for this page ended with


class LeaderboardView(AsyncView):
    authentication_classes = ()  # the board is public: a stale token must not hide it
    permission_classes = (AllowAny,)

    async def get(self, request: Request) -> HttpResponse:
        limit, offset = page_parameters(request)
        unanswered: Unavailable | None = cast("Any", request).scope.get(UNANSWERED)
        if unanswered is not None:
            raise unanswered
        page = await selectors.top(limit, offset)
        answer = board_answer(page, limit, offset, request.META.get("HTTP_IF_NONE_MATCH", ""))
        response = HttpResponse(answer.body, status=answer.status, headers=answer.headers)
        if answer.status == 304:
            del response["Content-Type"]  # Django's default, although there is no body
        return response


class BoardAnswer:
    """An HTTP response of the board; `fields` are its headers as ASGI has them."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.fields = [(name.encode(), value.encode()) for name, value in headers.items()]


class BoardAnswers:
    """The responses to a page: 200 with the rows, and 304 for a client that has them already."""

    def __init__(self, page: Page, limit: int, offset: int) -> None:
        rows = [{"rank": e.rank, "userId": e.user_id, "score": e.score} for e in page.entries]
        body = encode({"leaderboard": rows, "total": page.total, "seq": page.seq}).encode()
        self.page = page
        self.tag = LEADERBOARD.etag(page.epoch, page.seq, limit, offset, body)
        headers = freshness(page) | {
            "ETag": self.tag,
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        self.unchanged = BoardAnswer(304, headers, b"")
        content = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self.whole = BoardAnswer(200, headers | content, body)


def board_answer(page: Page, limit: int, offset: int, if_none_match: str) -> BoardAnswer:
    """The HTTP response for the page with this limit and offset. Who asks at the same time shares one `Page` and its responses."""
    global _newest
    if _newest is None or _newest.page is not page:
        _newest = BoardAnswers(page, limit, offset)
    if if_none_match and matches(_newest.tag, if_none_match):
        metrics.reads_not_modified.inc()
        return _newest.unchanged
    return _newest.whole


_newest: BoardAnswers | None = None


def matches(tag: str, if_none_match: str) -> bool:
    """Whether If-None-Match contains `tag`, by weak comparison, or is `*`: RFC 9110, section 13.1.2."""
    return if_none_match == "*" or tag in {value.strip().removeprefix("W/") for value in if_none_match.split(",")}


def page_parameters(request: Request) -> tuple[int, int]:
    """`limit` (1 to 100) and `offset` (from 0) of the query string."""
    parameters = PAGE.run_validation(request.query_params)
    limit, offset = int(parameters["limit"]), int(parameters["offset"])
    if not 1 <= limit <= MAX_PER_PAGE:
        raise ValidationError({"limit": [f"Expected 1 to {MAX_PER_PAGE}."]}, "out_of_range")
    return limit, offset


class UserView(AsyncView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    async def get(self, request: Request, user_id: str) -> HttpResponse:
        return await respond_with_standing(user_id)


class MeView(AsyncView):
    async def get(self, request: AuthenticatedRequest) -> HttpResponse:
        user_id = request.user.user_id
        await refusals.admit(user_id, request.user.token)
        if request.user.is_service:
            token_uses.note(request.user.token)
            raise ServiceHasNoScore
        return await respond_with_standing(user_id)


@csrf_exempt  # or Django's handler would answer a POST under auth/ with its page about cookies
async def no_such_address(request: HttpRequest) -> HttpResponse:
    """404 for every other path under /api/, with the address that was probably meant."""
    detail = "There is nothing at this address."
    if meant := address_meant(request.path_info):
        detail += f" Did you mean {request.META['SCRIPT_NAME']}{meant}?"
    return problems.problem_response(404, "not_found", detail)


def address_meant(path: str) -> str | None:
    """The address without slashes too many, or with the version that is missing; `None` if there is none either."""
    tidy = re.sub("/+", "/", path).rstrip("/")
    for candidate in (tidy, tidy.replace("/api/", "/api/v1/", 1)):
        if candidate.startswith("/api/") and get_resolver().resolve(candidate).func is not no_such_address:
            return candidate
    return None


class NoScore(NotFound):
    default_code = "no_score"
    default_detail = "This user has no score on the board."

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self.headers = headers


async def respond_with_standing(user_id: str) -> HttpResponse:
    standing = await selectors.standing(user_id)
    if standing.entry is None:
        raise NoScore(freshness(standing))
    body = {
        "userId": user_id,
        "score": standing.entry.score,
        "rank": standing.entry.rank,
        "total": standing.total,
        "seq": standing.seq,
    }
    return json_response(body, freshness(standing))
