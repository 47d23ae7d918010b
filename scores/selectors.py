"""Reads: from Redis, or from the database when Redis cannot answer. Each answer names its store and its event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar, cast

from django.db import Error as DatabaseError
from django.db.backends.utils import CursorWrapper

from scores.exceptions import CopyUnusable, Damaged, NoStoreAnswers
from scores.log import rank_index
from scores.log.rank_index import RankIndex, RankIndexer, rank_indexer
from scores.projection.leaderboard import (
    Answer,
    Copy,
    Entry,
    PageQuestion,
    PlacedEntry,
    PlaceQuestion,
    Question,
    Snapshot,
    StandingQuestion,
    leaderboard,
    ranked,
)
from scores.projection.tail import Tail, tail
from scores.stores.batcher import Batcher
from scores.user_id import is_storable

from . import metrics

Item = TypeVar("Item")
Answered = TypeVar("Answered")

MAX_PER_ROUND_TRIP = 256


class Source(StrEnum):
    REDIS = "redis"
    DATABASE = "database"


class Page(NamedTuple):
    """Consecutive entries of the board, as of event `seq` of `epoch`. `total` is the number of members."""

    entries: list[Entry]
    total: int
    epoch: str
    seq: int
    source: Source
    age_s: float  # seconds since the database last confirmed the end of the log; newer events may exist


class Standing(NamedTuple):
    """The entry of one user; `None` if they are not on the board. The rest as in `Page`."""

    entry: Entry | None
    total: int
    epoch: str
    seq: int
    source: Source
    age_s: float


async def top(limit: int = 10, offset: int = 0) -> Page:
    """`limit` entries after the first `offset`, best first. Raises `Unavailable`."""
    return cast("Page", await reader.batcher.submit(PageQuestion(limit, offset)))


async def standing(user_id: str) -> Standing:
    """Rank and score of one user. Raises `Unavailable`."""
    return cast("Standing", await reader.batcher.submit(StandingQuestion(user_id)))


class Place(NamedTuple):
    """The entry of one user with its position; the rest as in `Standing`."""

    entry: PlacedEntry | None
    total: int
    epoch: str
    seq: int
    source: Source
    age_s: float


async def place(user_id: str) -> Place:
    """Rank, position and score of one user. Raises `Unavailable`."""
    return cast("Place", await reader.batcher.submit(PlaceQuestion(user_id)))


def standings(user_ids: Sequence[str]) -> dict[str, Entry]:
    """The entries of those of `user_ids` who are on the board, in one round trip; for code without an event loop."""
    answers = reader.answer_questions([StandingQuestion(user_id) for user_id in user_ids])
    return {a.entry.user_id: a.entry for a in answers if isinstance(a, Standing) and a.entry is not None}


PAGE_SQL = """
    SELECT user_id, score FROM user_scores s
    WHERE (score, user_id) <= (%s, %s) AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = s.user_id)
    ORDER BY score DESC, user_id DESC LIMIT %s OFFSET %s
"""
# The condition on the score alone is redundant, but without it the planner estimates that the pair matches half of the
# table, and starts parallel workers.
BETWEEN_SQL = "s.score > %(score)s AND s.score <= %(end)s AND (s.score, s.user_id) <= (%(end)s, %(last)s)"
ABOVE_SQL = f"""
    SELECT (SELECT count(*) FROM user_scores s WHERE {BETWEEN_SQL})
    - (SELECT count(*) FROM blocks b JOIN user_scores s USING (user_id) WHERE {BETWEEN_SQL})
"""  # noqa: S608  constants
AHEAD_SQL = """
    SELECT count(*) FROM user_scores s WHERE score = %s AND user_id > %s
    AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = s.user_id)
"""
SCORES_SQL = """
    SELECT user_id, score FROM user_scores s
    WHERE user_id = ANY(%s) AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = s.user_id)
"""


def batcher_of_reads(
    name: str, work: Callable[[Sequence[Item]], Sequence[Answered | Exception]]
) -> Batcher[Item, Answered]:
    """A bridge to work that answers questions: equal ones share an answer, and one that comes too late is unavailable."""
    return Batcher(
        name,
        work,
        max_batch=MAX_PER_ROUND_TRIP,
        max_queued=20_000,
        timeout_s=1.8,
        share=metrics.reads_shared.inc,
        late=NoStoreAnswers,
    )


class Reader:
    """Answers questions about one board, from its copy or from the tables of its log."""

    def __init__(self, copy: Copy, tail: Tail, rank_indexer: RankIndexer) -> None:
        self._copy = copy
        self._log = copy.log
        self._tail = tail
        self._rank_indexer = rank_indexer
        self.batcher: Batcher[Question, Page | Standing | Place] = batcher_of_reads("reader", self.answer_questions)

    def answer_questions(self, questions: Sequence[Question]) -> list[Page | Standing | Place]:
        """Answer all questions as of one moment, equal ones only once. Raises `NoStoreAnswers`."""
        distinct = list(dict.fromkeys(questions))
        try:
            snapshot, source = self._snapshot(distinct)
        except DatabaseError as error:
            self._log.connection.close()
            raise NoStoreAnswers from error
        metrics.reads.labels(source.value).inc(len(questions))
        metrics.reads_shared.inc(len(questions) - len(distinct))
        age_s = self._tail.age_s if source is Source.REDIS else 0.0
        rest = snapshot.members, snapshot.origin, snapshot.seq, source, age_s
        answers = {
            question: Page(cast("list[Entry]", answer), *rest)
            if isinstance(question, PageQuestion)
            else Standing(cast("Entry | None", answer), *rest)
            if isinstance(question, StandingQuestion)
            else Place(cast("PlacedEntry | None", answer), *rest)
            for question, answer in zip(distinct, snapshot.answers, strict=True)
        }
        return [answers[question] for question in questions]

    def _snapshot(self, questions: list[Question]) -> tuple[Snapshot, Source]:
        try:
            return self._copy.read(self._tail.origin(), questions), Source.REDIS
        except Damaged:
            self._tail.wake()
        except CopyUnusable:
            pass
        return self._read_database(questions), Source.DATABASE

    def _read_database(self, questions: list[Question]) -> Snapshot:
        """The same as `Copy.read`, from the tables, whose index has the same order."""
        self._log.drop_dead_connection()  # it has been idle while Redis answered
        self._log.head()  # starts the log if there is none, which the read-only transaction cannot do
        # PostgreSQL refuses NUL, and the error would fail the other questions of the batch too.
        users = [q.user_id for q in questions if not isinstance(q, PageQuestion) and is_storable(q.user_id)]
        deepest = max((q.offset for q in questions if isinstance(q, PageQuestion)), default=0)
        with self._log.snapshot() as head, self._log.connection.cursor() as cursor:
            needs_index = head.members > rank_index.SMALL_BOARD and (users or deepest > rank_index.SEGMENT_ROWS)
            index = self._rank_indexer.at(head) if needs_index else rank_index.EMPTY
            scores = _scores(cursor, users)
            answers: list[Answer] = []
            for question in questions:
                if isinstance(question, PageQuestion):
                    answers.append(_page(cursor, index, question))
                elif (score := scores.get(question.user_id)) is None:
                    answers.append(None)
                else:
                    rank = 1 + _count_above(cursor, index, score)
                    if isinstance(question, StandingQuestion):
                        answers.append(Entry(rank, question.user_id, score))
                    else:
                        position = rank + _count_ahead(cursor, question.user_id, score)
                        answers.append(PlacedEntry(rank, question.user_id, score, position))
        self._copy.must_reach(head.origin, head.seq)  # what has been told once is not taken back
        return Snapshot(head.origin, head.seq, head.members, answers)


def _scores(cursor: CursorWrapper, users: list[str]) -> dict[str, int]:
    """The scores of those of `users` who are on the board."""
    if not users:
        return {}
    cursor.execute(SCORES_SQL, [users])
    return dict(cursor.fetchall())


def _page(cursor: CursorWrapper, index: RankIndex, question: PageQuestion) -> list[Entry]:
    skipped, end = index.after(question.offset)
    cursor.execute(PAGE_SQL, [*end, question.limit, skipped])
    rows = cursor.fetchall()
    rank = 1 + _count_above(cursor, index, rows[0][1]) if rows and question.offset else 1
    return ranked(rows, rank=rank, offset=question.offset)


def _count_above(cursor: CursorWrapper, index: RankIndex, score: int) -> int:
    """The number of members with a higher score."""
    indexed, (end, last) = index.above(score)
    cursor.execute(ABOVE_SQL, {"score": score, "end": end, "last": last})
    (rest,) = cursor.fetchone()
    return indexed + int(rest)


def _count_ahead(cursor: CursorWrapper, user_id: str, score: int) -> int:
    """The number of members with the same score who are ahead."""
    cursor.execute(AHEAD_SQL, [score, user_id])
    (ahead,) = cursor.fetchone()
    return int(ahead)


reader = Reader(leaderboard, tail, rank_indexer)
