"""The results of a period that has closed."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from scores import board_results
from scores.boards.documents import text_of
from scores.boards.webhooks import shown
from scores.exceptions import PeriodNotClosed
from scores.models import RESERVED

from .async_view import json_response
from .board_reads import OpenView, about, must_be_forever, privacy, seen_by
from .headers import position


class BoardResultsView(OpenView):
    """Who had which place when a period closed; whoever may see the board may see them. They never change."""

    async def get(self, request: Request, board: str) -> HttpResponse:
        asked = request.query_params.get("period") or "previous"
        if board == RESERVED:
            must_be_forever(asked)
            raise PeriodNotClosed
        found = await seen_by(request, board, board_results.results(board, asked))
        if found.closed_at is None:
            raise PeriodNotClosed
        body = about(board, found.period) | {
            "closedAt": text_of(found.closed_at),
            "results": [shown(result) for result in found.results],
        }
        return json_response(body, position(found.head.origin, found.head.seq) | privacy(found.board))
