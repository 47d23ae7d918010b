"""Reads of engagement: who plays when, from the rollup in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from scores.engagement.reads import Engagement, Question, answers
from scores.exceptions import DATABASE_AWAY, NoStoreAnswers
from scores.log.head import log
from scores.stores.batcher import Batcher


async def engagement(question: Question) -> Engagement:
    """Raises `Unavailable`."""
    return await reader.submit(question)


def read(questions: Sequence[Question]) -> list[Engagement]:
    """The answers to all questions. Raises `NoStoreAnswers`, or `AnalyticsBuilding`."""
    log.drop_dead_connection()
    distinct = list(dict.fromkeys(questions))
    try:
        found = dict(zip(distinct, answers(log, distinct), strict=True))
    except DATABASE_AWAY as error:
        log.connection.close()
        raise NoStoreAnswers from error
    return [found[question] for question in questions]


# A few at a time: the longest range takes some milliseconds, and services ask, not everybody.
reader: Batcher[Question, Engagement] = Batcher(
    "reader of engagement", read, max_batch=8, max_queued=1_000, timeout_s=1.8, late=NoStoreAnswers
)
