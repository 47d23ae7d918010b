"""Increments that are accepted now and counted soon (RFC 7240, section 4.1), and what became of them."""

from __future__ import annotations

import re
from urllib.parse import quote
from uuid import uuid4

from django.conf import settings
from django.http import HttpResponse
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from scores import queued
from scores.access.authentication import AuthenticatedRequest
from scores.entries import key_of
from scores.exceptions import ServiceHasNoScore
from scores.log.ledger import Change, Kind

from . import problems
from .async_view import AsyncView, json_response
from .headers import position
from .raw_path import segment_after

RESPOND_ASYNC = re.compile(r"(?:^|,)\s*respond-async\s*(?:[;,]|$)", re.IGNORECASE)


def is_wanted(request: Request) -> bool:
    """Whether the client prefers not to wait, and there is a broker to put the increment into."""
    prefer = request.META.get("HTTP_PREFER")
    return prefer is not None and settings.BROKER is not None and RESPOND_ASYNC.search(prefer) is not None


async def respond_when_queued(user_id: str, points: int, action: str | None, key: str | None) -> HttpResponse:
    """202 when the broker has confirmed the increment; with a key of its own if it has none."""
    key = key or uuid4().hex
    await queued.enqueue(Change(Kind.INCREMENT, user_id, points, key, action=action))
    headers = {
        "Location": f"{settings.URL_PREFIX}/api/v1/scores/queued/{quote(key, safe='')}",
        "Preference-Applied": "respond-async",
        "Idempotency-Key": key,
    }
    return _accepted(key, headers)


class QueuedView(AsyncView):
    async def get(self, request: AuthenticatedRequest, key: str) -> HttpResponse:
        if request.user.is_service:
            raise ServiceHasNoScore
        key = key_of(segment_after(request, "queued", behind=0))
        outcome = await queued.outcome(request.user.user_id, key)
        if outcome is None:
            if settings.BROKER is None:
                raise NotFound("There is no queue here, and no such change.")
            return _accepted(key, {"Retry-After": str(problems.RETRY_AFTER_S)})
        if not isinstance(outcome, queued.Counted):
            raise outcome
        of_board = {"board": outcome.stream, "score": outcome.result}
        result = {"newScore": outcome.result} if outcome.stream is None else of_board
        headers = {"X-Leaderboard-Seq": str(outcome.seq)} | position(outcome.origin, outcome.seq)
        return json_response({"success": True, **result, "seq": outcome.seq}, headers)


def _accepted(key: str, headers: dict[str, str]) -> HttpResponse:
    response = json_response({"success": True, "queued": True, "key": key}, headers)
    response.status_code = 202
    return response
