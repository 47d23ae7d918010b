"""The HTTP API of the board. A view validates, calls and answers; errors are rendered by `problems`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar, NoReturn, cast

from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import MethodNotAllowed, NotFound, ParseError, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from . import problems, selectors, services
from .authentication import AuthenticatedRequest
from .selectors import Page, Standing
from .serializers import IncrementSerializer, PageSerializer

MOST_PER_PAGE = 100


class AsyncView(APIView):
    """A DRF view whose handlers are coroutines.

    DRF 3.18 is sync, and packages that wrap it hop to a thread for `initial`, which costs more than everything here.
    Authentication, permissions and parsing do no I/O, so they run where they are; the response is rendered here as well,
    because Django would hop to a thread for that too.
    """

    renderer: ClassVar[BaseRenderer] = JSONRenderer()

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        self.args, self.kwargs = args, kwargs
        self.request = wrapped = self.initialize_request(request, *args, **kwargs)
        self.headers: dict[str, str] = {}
        try:
            self.initial(wrapped, *args, **kwargs)
            method = (request.method or "").lower()
            known = method in self.http_method_names
            handler = getattr(self, method, self.http_method_not_allowed) if known else self.http_method_not_allowed
            response = await cast("Awaitable[Response]", handler(wrapped, *args, **kwargs))
        except Exception as error:
            response = self.handle_exception(error)
        self.response = self.finalize_response(wrapped, response, *args, **kwargs)
        return cast("Response", self.response.render())

    async def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        return Response(status=204, headers={"Allow": ", ".join(self.allowed_methods)})

    def http_method_not_allowed(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self.headers["Allow"] = ", ".join(self.allowed_methods)  # RFC 9110, section 15.5.6
        raise MethodNotAllowed(request.method or "")

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """JSON, whatever is accepted: there is nothing else to negotiate, and a 406 helps nobody."""
        return self.renderer, "application/json"


class IncrementView(AsyncView):
    async def post(self, request: AuthenticatedRequest) -> Response:
        serializer = IncrementSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        recorded = await services.increment(
            user_id=request.user.user_id,
            points=serializer.validated_data["points"],
            idempotency_key=idempotency_key(request),
        )
        headers = {"X-Leaderboard-Seq": str(recorded.seq)}
        if recorded.replayed:
            headers["Idempotency-Replayed"] = "true"
        return Response({"success": True, "newScore": recorded.total}, headers=headers)


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header: 1 to 255 visible ASCII characters, or none."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not (1 <= len(key) <= 255 and all("!" <= c <= "~" for c in key)):
        raise ParseError("An Idempotency-Key has 1 to 255 visible ASCII characters.", "idempotency_key_invalid")
    return key


class LeaderboardView(AsyncView):
    authentication_classes = ()  # the board is public: a stale token must not hide it
    permission_classes = (AllowAny,)

    async def get(self, request: Request) -> Response:
        limit, offset = page_of(request)
        page = await selectors.top(limit, offset)
        headers = freshness(page) | {
            # The board is a function of the log's state and the page asked for; where it was read does not change it.
            "ETag": f'"{page.epoch}-{page.seq}-{limit}-{offset}"',
            "Cache-Control": "no-cache",
        }
        if is_had(headers["ETag"], request.META.get("HTTP_IF_NONE_MATCH", "")):
            return Response(status=304, headers=headers)
        rows = [{"rank": e.rank, "userId": e.user_id, "score": e.score} for e in page.entries]
        return Response({"leaderboard": rows, "total": page.total, "seq": page.seq}, headers=headers)


def is_had(tag: str, if_none_match: str) -> bool:
    """Whether the condition names `tag`, by weak comparison, or any page there is: RFC 9110, section 13.1.2."""
    return if_none_match == "*" or tag in {had.strip().removeprefix("W/") for had in if_none_match.split(",")}


def page_of(request: Request) -> tuple[int, int]:
    """`limit` (1 to 100) and `offset` (from 0) of the query string."""
    serializer = PageSerializer(data=request.query_params)
    serializer.is_valid(raise_exception=True)
    limit, offset = (int(serializer.validated_data[name]) for name in ("limit", "offset"))
    if not 1 <= limit <= MOST_PER_PAGE:
        raise ValidationError({"limit": [f"Expected 1 to {MOST_PER_PAGE}."]}, "out_of_range")
    return limit, offset


class UserView(AsyncView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    async def get(self, request: Request, user_id: str) -> Response:
        return standing_response(await selectors.standing(user_id), user_id)


class MeView(AsyncView):
    async def get(self, request: AuthenticatedRequest) -> Response:
        user_id = request.user.user_id
        return standing_response(await selectors.standing(user_id), user_id)


async def no_such_address(request: HttpRequest) -> HttpResponse:
    """What no other path under /api/ answers."""
    return problems.page(404, "not_found", "There is nothing at this address.")


class NoScore(NotFound):
    default_code = "no_score"
    default_detail = "This user has no score on the board."

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self.headers = headers


def standing_response(standing: Standing, user_id: str) -> Response:
    if standing.entry is None:
        raise NoScore(freshness(standing))
    body = {
        "userId": user_id,
        "score": standing.entry.score,
        "rank": standing.entry.rank,
        "total": standing.total,
        "seq": standing.seq,
    }
    return Response(body, headers=freshness(standing))


def freshness(answer: Page | Standing) -> dict[str, str]:
    """Which store answered, as of which event, and how many seconds ago that was known to be the newest one."""
    return {
        "X-Leaderboard-Source": answer.source.value,
        "X-Leaderboard-Seq": str(answer.seq),
        "X-Leaderboard-Age": f"{answer.age_s:.1f}",
    }
