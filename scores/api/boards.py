"""The API of boards: which there are, and for services with the scope `boards:manage`, their definitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from django.db import Error as DatabaseError
from django.http import HttpResponse
from rest_framework.request import Request

from scores.access.authentication import AuthenticatedRequest, InsufficientScope
from scores.boards import definitions, listing
from scores.boards.catalogue import catalogue
from scores.boards.documents import document, parse, text_of
from scores.boards.listing import Listed
from scores.exceptions import DATABASE_AWAY, NoStoreAnswers, OutcomeUnknown
from scores.log import refusals
from scores.log.head import Head, log
from scores.log.token_uses import token_uses
from scores.models import RESERVED
from scores.scopes import Scope
from scores.stores.batcher import Batcher

from .async_view import AsyncView, encode, json_response
from .board_reads import respond_with_board
from .headers import position

LIST_AGE_S = 1.0  # for which a process keeps the list of boards
DEFAULT_BOARD = {
    "name": RESERVED,
    "title": "",
    "fold": "sum",
    "order": "higher",
    "ties": "id",
    "period": "forever",
    "zone": "UTC",
    "archived": False,
    "current": {"number": 1, "startsAt": None, "resetsAt": None},
}


class BoardsView(AsyncView):
    """All boards. To make one needs a scope; to see them needs no token, and a stale one is no hindrance."""

    def initial(self, request: AuthenticatedRequest, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        if request.method == "POST":
            super().initial(request, *args, **kwargs)
            require_scope(request)

    async def get(self, request: Request) -> HttpResponse:
        found = await listed()
        headers = {"Cache-Control": "public, max-age=1"} | position(found.head.origin, found.head.seq)
        return HttpResponse(found.body, content_type="application/json", headers=headers)

    async def post(self, request: AuthenticatedRequest) -> HttpResponse:
        definition = parse(request.data)
        actor = request.user.user_id

        def create() -> dict[str, Any]:
            return document(definitions.definition_of(definitions.create(definition, actor)))

        address = f"{request.META['SCRIPT_NAME']}/api/v1/boards/{definition.name}"
        response = json_response(await changed(request, create), {"Location": address})
        response.status_code = 201
        return response


class BoardView(AsyncView):
    """One board. To change it needs a scope."""

    def initial(self, request: AuthenticatedRequest, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        if request.method in ("PATCH", "DELETE"):
            super().initial(request, *args, **kwargs)
            require_scope(request)

    async def get(self, request: Request, board: str) -> HttpResponse:
        return await respond_with_board(request, board)

    async def patch(self, request: AuthenticatedRequest, board: str) -> HttpResponse:
        changes, actor = request.data, request.user.user_id

        def change() -> dict[str, Any]:
            return document(definitions.change(board, changes, actor).after)

        return json_response(await changed(request, change), {})

    async def delete(self, request: AuthenticatedRequest, board: str) -> HttpResponse:
        actor = request.user.user_id

        def delete() -> dict[str, Any]:
            definitions.delete(board, actor)
            return {}

        await changed(request, delete)
        return HttpResponse(status=204)


def require_scope(request: AuthenticatedRequest) -> None:
    """Before the throttle counts: whoever may not do this must not use up what limits it."""
    if Scope.MANAGE_BOARDS not in request.user.scopes:
        raise InsufficientScope(Scope.MANAGE_BOARDS)


async def changed(request: AuthenticatedRequest, change: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the change answers. It runs in a thread, for callers that the tables do not refuse."""
    global _kept
    user_id, token = request.user.user_id, request.user.token

    def work() -> dict[str, Any]:
        (refusal,) = refusals.refusals_of([(user_id, token)])
        if refusal is not None:
            raise refusal
        answer = change()
        with suppress(DatabaseError):
            catalogue.look(now=True)  # whoever has changed a board reads it so; other processes look within 0.25 s
        return answer

    try:
        answer = await changes.submit(work)
    finally:
        _kept = None  # whoever has just made a board sees it
    token_uses.note(token)
    return answer


def run(work: Sequence[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """The answers of changes, of which there is one at a time."""
    log.drop_dead_connection()
    connection = log.connection
    try:
        return [each() for each in work]
    except DATABASE_AWAY as error:
        raw = connection.connection
        is_lost = raw is not None and raw.closed  # or nothing happened: a wait for the lock took too long, say
        connection.close()
        raise (OutcomeUnknown if is_lost else NoStoreAnswers) from error


# One at a time, so that nobody holds up the writers by many changes at once. A new board looks through a log of years.
changes: Batcher[Callable[[], dict[str, Any]], dict[str, Any]] = Batcher(
    "changes of boards", run, max_batch=1, max_queued=100, timeout_s=20.0
)


class BoardList(NamedTuple):
    """The list of boards as JSON, as of `head` or a moment later."""

    body: bytes
    head: Head


async def listed() -> BoardList:
    """The list of boards, at most `LIST_AGE_S` old: a page that many look at costs no query each."""
    global _kept
    now = time.monotonic()  # before the query, which shows nothing newer for sure
    kept = _kept
    if kept is None or now - kept[0] > LIST_AGE_S:
        _kept = kept = now, await lists.submit(None)
    return kept[1]


def read(items: Sequence[None]) -> list[BoardList]:
    log.drop_dead_connection()
    try:
        head = log.head()  # first: what is read after it lacks nothing of it
        boards = [DEFAULT_BOARD, *(entry(each) for each in listing.public(log))]
    except DATABASE_AWAY:
        log.connection.close()
        raise
    return [BoardList(encode({"boards": boards}).encode(), head)] * len(items)


def entry(listed: Listed) -> dict[str, Any]:
    """A board as the list has it."""
    board, current = listed
    return {
        "name": board.name,
        "title": board.title,
        "fold": board.fold,
        "order": board.order,
        "ties": board.ties,
        "period": board.period,
        "zone": board.zone,
        "archived": board.archived_at is not None,
        "current": current
        and {
            "number": current.number,
            "startsAt": text_of(current.starts_at),
            "resetsAt": text_of(current.ends_at),
        },
    }


_kept: tuple[float, BoardList] | None = None  # when it was asked for, in monotonic seconds, and the list
lists: Batcher[None, BoardList] = Batcher(
    "list of boards", read, max_batch=1_000, max_queued=20_000, timeout_s=1.5, share=lambda: None
)
