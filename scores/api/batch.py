"""Many changes in one request, each with its own answer: for game servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from scores import services
from scores.access.authentication import AuthenticatedRequest, InsufficientScope
from scores.access.throttling import Unlimited
from scores.award import INVALID_BODY
from scores.entries import MAX_ENTRIES, change_of
from scores.exceptions import Malformed, ScoreError, TokenRevoked, Unavailable
from scores.log.ledger import Change, Recorded
from scores.log.token_uses import token_uses
from scores.scopes import Scope

from . import problems
from .async_view import PARSERS, AsyncView, json_response
from .headers import position
from .parsers import NDJSONParser

BATCH_PARSERS: list[BaseParser] = [*PARSERS, NDJSONParser()]

Outcome = Recorded | Exception


class BatchView(AsyncView):
    throttle = Unlimited()

    def get_parsers(self) -> list[BaseParser]:
        return BATCH_PARSERS

    def initial(self, request: AuthenticatedRequest, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        super().initial(request, *args, **kwargs)
        if request.method == "POST" and Scope.BATCH not in request.user.scopes:
            raise InsufficientScope(Scope.BATCH)

    async def post(self, request: AuthenticatedRequest) -> HttpResponse:
        service = request.user
        entries = entries_of(request)
        read = [_read(entry, service.user_id, service.token) for entry in entries]
        changes = [change for change in read if isinstance(change, Change)]
        recorded = iter(await services.record_each(changes))
        outcomes: list[Outcome] = [next(recorded) if isinstance(change, Change) else change for change in read]
        raise_what_concerns_all(outcomes)
        token_uses.note(service.token)
        return respond(outcomes)


def entries_of(request: Request) -> list[Any]:
    """The entries of a body: 1 to 1,000, each still to be looked at. Raises `Malformed`."""
    entries: Any = request.data
    if not isinstance(entries, list):
        raise Malformed(INVALID_BODY, "Expected an array of entries.", of="non_field_errors")
    if not 1 <= len(entries) <= MAX_ENTRIES:
        raise Malformed("entries_out_of_range", f"Expected 1 to {MAX_ENTRIES:,} entries, and not {len(entries):,}.")
    return entries


def _read(entry: Any, actor: str, token: str) -> Change | ScoreError:
    try:
        return change_of(entry, actor=actor, token=token)
    except ScoreError as error:
        return error


def raise_what_concerns_all(outcomes: Sequence[Outcome]) -> None:
    """Raise the refusal of the token itself, an unexpected error, and an outage in which no entry had another outcome."""
    for outcome in outcomes:
        if isinstance(outcome, TokenRevoked) or (
            isinstance(outcome, Exception) and not isinstance(outcome, ScoreError)
        ):
            raise outcome
    first = outcomes[0]
    if isinstance(first, Unavailable) and all(isinstance(outcome, Unavailable) for outcome in outcomes):
        raise first


def respond(outcomes: Sequence[Outcome]) -> HttpResponse:
    """200 with an answer for each entry, in order. 503 with the same if some may have been recorded and some may not:
    a client that repeats what failed repeats the whole, and the keys of the others count them once.
    """
    results = [_result(outcome) for outcome in outcomes]
    newest = max((o for o in outcomes if isinstance(o, Recorded)), key=lambda recorded: recorded.seq, default=None)
    headers = {} if newest is None else position(newest.origin, newest.seq)
    for outcome in outcomes:
        if isinstance(outcome, Unavailable):
            wait = {"Retry-After": str(problems.RETRY_AFTER_S)}
            return problems.problem_response(503, outcome.code, str(outcome), headers=wait, results=results)
    count = sum(isinstance(outcome, Recorded) for outcome in outcomes)
    return json_response({"recorded": count, "refused": len(outcomes) - count, "results": results}, headers)


def _result(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, ScoreError):
        return {"success": False, **problems.short_problem(outcome)}
    assert isinstance(outcome, Recorded)
    result: dict[str, Any] = {"success": True, "newScore": outcome.total, "seq": outcome.seq}
    return result | {"replayed": True} if outcome.replayed else result
