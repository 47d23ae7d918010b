"""Reads: from Redis, and from the database when Redis cannot answer. Each answer says which, and as of which event."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, cast

from django.db import Error as DatabaseError
from django.db import connection

from . import leaderboard, log, metrics
from .exceptions import NoStoreAnswers
from .identity import is_user_id
from .lane import Lane
from .leaderboard import CopyUnusable, Damaged, Entry, PageQuestion, Question, Snapshot, StandingQuestion, ranked
from .tail import tail

MOST_PER_ROUND_TRIP = 256


class Source(StrEnum):
    REDIS = "redis"
    DATABASE = "database"


class Page(NamedTuple):
    """Some lines of the board. `total` is the number of users on it; all of it is true right after event `seq` of `epoch`."""

    entries: list[Entry]
    total: int
    epoch: str
    seq: int
    source: Source
    age_s: float  # since the database last said that this is how far it is; newer events may have come after that


class Standing(NamedTuple):
    """Where one user stands; `entry` is `None` when they are not on the board."""

    entry: Entry | None
    total: int
    epoch: str
    seq: int
    source: Source
    age_s: float


async def top(limit: int = 10, offset: int = 0) -> Page:
    """`limit` entries after the first `offset`, best first. Raises `Unavailable`."""
    return cast("Page", await lane.ask(PageQuestion(limit, offset)))


async def standing(user_id: str) -> Standing:
    """Rank and score of one user. Raises `Unavailable`."""
    return cast("Standing", await lane.ask(StandingQuestion(user_id)))


def standings(user_ids: Sequence[str]) -> dict[str, Entry]:
    """Rank and score of those of `user_ids` who are on the board, in one round trip; for code without an event loop."""
    answers = answer([StandingQuestion(user_id) for user_id in user_ids])
    return {a.entry.user_id: a.entry for a in answers if isinstance(a, Standing) and a.entry is not None}


def answer(questions: Sequence[Question]) -> list[Page | Standing]:
    """Answer all questions as of one moment, asking equal ones once. Raises `NoStoreAnswers`."""
    asked = list(dict.fromkeys(questions))
    try:
        snapshot, source = _snapshot(asked)
    except DatabaseError as error:
        connection.close()
        raise NoStoreAnswers from error
    metrics.reads.labels(source.value).inc(len(questions))
    metrics.reads_shared.inc(len(questions) - len(asked))
    age_s = tail.age_s if source is Source.REDIS else 0.0
    shape = snapshot.members, snapshot.origin, snapshot.seq, source, age_s
    known = {
        question: Page(cast("list[Entry]", found), *shape)
        if isinstance(question, PageQuestion)
        else Standing(cast("Entry | None", found), *shape)
        for question, found in zip(asked, snapshot.answers, strict=True)
    }
    return [known[question] for question in questions]


def _snapshot(questions: list[Question]) -> tuple[Snapshot, Source]:
    try:
        return leaderboard.read(tail.origin(), questions), Source.REDIS
    except Damaged:
        tail.wake()
    except CopyUnusable:
        pass
    return _read_database(questions), Source.DATABASE


PAGE_SQL = """
    SELECT user_id, score FROM user_scores s
    WHERE NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = s.user_id)
    ORDER BY score DESC, user_id DESC LIMIT %s OFFSET %s
"""
ABOVE_SQL = """
    (SELECT count(*) FROM user_scores s WHERE s.score > {0})
    - (SELECT count(*) FROM user_scores s JOIN blocks b USING (user_id) WHERE s.score > {0})
"""
RANK_SQL = f"SELECT 1 + {ABOVE_SQL.format('%(score)s')}"
STANDING_SQL = f"""
    SELECT 1 + {ABOVE_SQL.format("mine.score")}, mine.score FROM user_scores mine
    WHERE user_id = %s AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = mine.user_id)
"""  # noqa: S608  constants


def _read_database(questions: list[Question]) -> Snapshot:
    """What `leaderboard.read` answers, from the tables, by the index that has the same order."""
    log.head()  # starts the log when there is none, which the read-only transaction could not
    with log.snapshot() as head, connection.cursor() as cursor:
        answers: list[list[Entry] | Entry | None] = []
        for question in questions:
            if isinstance(question, PageQuestion):
                cursor.execute(PAGE_SQL, [question.limit, question.offset])
                rows = cursor.fetchall()
                rank = 1
                if rows and question.offset:
                    cursor.execute(RANK_SQL, {"score": rows[0][1]})
                    (rank,) = cursor.fetchone()
                answers.append(ranked(rows, rank=rank, offset=question.offset))
            elif is_user_id(question.user_id):
                cursor.execute(STANDING_SQL, [question.user_id])
                row = cursor.fetchone()
                answers.append(Entry(row[0], question.user_id, row[1]) if row else None)
            else:  # PostgreSQL refuses NUL, and the other questions of the round trip would go without an answer
                answers.append(None)
        return Snapshot(head.origin, head.seq, head.members, answers)


lane: Lane[Question, Page | Standing] = Lane(
    "reader", answer, most=MOST_PER_ROUND_TRIP, room=20_000, patience_s=1.8, share=metrics.reads_shared.inc
)
