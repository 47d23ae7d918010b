"""Reads of results: what was written down when a period closed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from scores.boards.catalogue import Span, catalogue
from scores.exceptions import DATABASE_AWAY, NoStoreAnswers, ScoreError
from scores.log.head import Head, log
from scores.models import Board, BoardResult, Period
from scores.stores.batcher import Batcher


class Asked(NamedTuple):
    """A request for the results of a period: previous, current, a date or a number."""

    board: str
    period: str


class Results(NamedTuple):
    """In order of places; none, and no `closed_at`, as long as the period has not closed. As of `head`, or a moment later."""

    board: Board
    period: Span
    closed_at: datetime | None
    results: list[BoardResult]
    head: Head


async def results(board: str, period: str) -> Results:
    """Raises `BoardUnknown`, `PeriodUnknown`, `PeriodInvalid`, or `Unavailable`."""
    return await reader.submit(Asked(board, period))


def read(asked: Sequence[Asked]) -> list[Results | Exception]:
    """The answer to each, or why there is none. Raises `NoStoreAnswers`."""
    log.drop_dead_connection()
    answers: dict[Asked, Results | Exception] = {}
    try:
        head = log.head()  # first: what is read after it lacks nothing of it
        for each in dict.fromkeys(asked):
            try:
                answers[each] = _read(each, head)
            except ScoreError as error:
                answers[each] = error
    except DATABASE_AWAY as error:
        log.connection.close()
        raise NoStoreAnswers from error
    return [answers[each] for each in asked]


def _read(asked: Asked, head: Head) -> Results:
    known = catalogue.board(asked.board)
    span = catalogue.period(known, asked.period)
    # In this order: results are there when the period is closed.
    period = Period.objects.using(log.alias).filter(board=known.board, number=span.number)
    closed_at = period.values_list("closed_at", flat=True).first()
    if closed_at is None:
        return Results(known.board, span, None, [], head)
    rows = BoardResult.objects.using(log.alias).filter(board=known.board, period=span.number).order_by("place")
    return Results(known.board, span, closed_at, list(rows), head)


reader: Batcher[Asked, Results] = Batcher(
    "reader of results", read, max_batch=16, max_queued=5_000, timeout_s=1.8, late=NoStoreAnswers
)
