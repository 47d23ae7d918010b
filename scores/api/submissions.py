"""Scores for boards with a stream of their own: a lap time, a best run."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.request import Request

from scores import services
from scores.access.authentication import AuthenticatedRequest, InsufficientScope
from scores.access.throttling import IncrementThrottle, PlayerThrottle, Throttle
from scores.award import metadata_of, score_of
from scores.entries import BOARD
from scores.exceptions import BoardUnknown, ServiceHasNoScore
from scores.log.token_uses import token_uses
from scores.scopes import Scope
from scores.user_id import is_player_id

from .async_view import AsyncView, json_response
from .board_reads import BoardUserView, respond_with_place
from .headers import record_headers
from .raw_path import segment_after
from .views import idempotency_key

OF_A_SERVICE = (
    "A service has no score of its own: it submits scores of players, at /api/v1/boards/{board}/users/{userId}/scores."
)


class SubmissionView(AsyncView):
    throttle = IncrementThrottle()

    async def post(self, request: AuthenticatedRequest, board: str) -> HttpResponse:
        player = request.user
        if player.is_service:
            raise ServiceHasNoScore(OF_A_SERVICE)
        return await respond_to_submission(request, board, player.user_id)


class UserSubmissionView(AsyncView):
    """For a game server, which submits scores of its players.

    An id may itself end as this address does. All methods but POST are about the user with that id, as at `BoardUserView`.
    """

    throttle: Throttle = PlayerThrottle()

    def initial(self, request: AuthenticatedRequest, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Refuses before the throttle counts: whoever may not score for a player must not use up what limits it."""
        if request.method != "POST":  # looks at a token where the board asks for one
            self.throttle = BoardUserView.throttle
            return
        if (user_id := segment_after(request, "users", behind=1)) is None:
            raise NotFound("There is nothing at this address.")
        self.kwargs["user_id"] = user_id
        super().initial(request, *args, **kwargs)
        if Scope.WRITE_ANY not in request.user.scopes:
            raise InsufficientScope(Scope.WRITE_ANY)
        if not is_player_id(user_id):
            raise ParseError("This is not a valid id of a player.", "user_id_invalid")

    async def post(self, request: AuthenticatedRequest, board: str, user_id: str) -> HttpResponse:
        service = request.user
        user_id = self.kwargs["user_id"]
        response = await respond_to_submission(request, board, user_id, actor=service.user_id, token=service.token)
        token_uses.note(service.token)
        return response

    async def get(self, request: Request, board: str, user_id: str) -> HttpResponse:
        return await respond_with_place(request, board)


async def respond_to_submission(
    request: AuthenticatedRequest, board: str, user_id: str, actor: str = "", token: str = ""
) -> HttpResponse:
    if not BOARD.fullmatch(board):
        raise BoardUnknown
    body: Any = request.data
    score = score_of(body)
    recorded = await services.submit(
        user_id=user_id,
        board=board,
        score=score,
        metadata=metadata_of(body),
        idempotency_key=idempotency_key(request),
        actor=actor,
        token=token,
    )
    answer = {"success": True, "eventId": str(recorded.seq), "board": board, "score": recorded.total}
    return json_response(answer, record_headers(recorded))
