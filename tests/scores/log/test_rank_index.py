"""Ranks and far pages from the database: by milestones they are what counting says, after whatever happened since."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from django.db import connection

from scores import selectors
from scores.log import rank_index
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.rank_index import EMPTY, TOP, RankIndex, RankIndexer
from scores.log.writer import writer
from scores.projection.leaderboard import Answer, PageQuestion, Question, StandingQuestion
from tests.polling import until

USERS = [f"user{n}" for n in range(60)]
QUESTIONS: list[Question] = [
    *(StandingQuestion(user) for user in [*USERS, "nobody"]),
    *(PageQuestion(7, offset) for offset in range(0, 70, 3)),
]


@pytest.fixture
def rank_indexer(board: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[RankIndexer]:
    """Milestones that are four rows apart, for boards of any length."""
    rank_indexer = RankIndexer(log, segment_rows=4)
    monkeypatch.setattr(selectors.reader, "_rank_indexer", rank_indexer)
    monkeypatch.setattr(rank_index, "SMALL_BOARD", 0)
    monkeypatch.setattr(rank_index, "SEGMENT_ROWS", 0)
    log.head()
    yield rank_indexer
    rank_indexer.stop()


def backends() -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        return {pid for (pid,) in cursor.fetchall()}


def at_head(rank_indexer: RankIndexer) -> RankIndex:
    with log.snapshot() as head:
        return rank_indexer.at(head)


def built(rank_indexer: RankIndexer) -> RankIndex:
    until(lambda: at_head(rank_indexer) is not EMPTY)
    return at_head(rank_indexer)


def by_counting(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    with monkeypatch.context() as patch:
        patch.setattr(rank_index, "SMALL_BOARD", 1_000_000)
        return selectors.reader._read_database(QUESTIONS).answers


def anything(chance: random.Random) -> Change:
    user = chance.choice(USERS)
    match chance.choice(["increment", "increment", "correct", "block", "unblock"]):
        case "increment":
            return Change(Kind.INCREMENT, user, chance.randint(1, 30))
        case "correct":
            return Change(Kind.CORRECTION, user, chance.choice([0, 0, 5, 10, chance.randint(0, 200)]))
        case "block":
            return Change(Kind.BLOCK, user)
        case _:
            return Change(Kind.UNBLOCK, user)


@pytest.mark.parametrize("seed", range(5))
def test_answers_are_those_of_counting(seed: int, rank_indexer: RankIndexer, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    writer.record([anything(chance) for _ in range(100)])
    built(rank_indexer)

    for _ in range(30):
        of_service = Change(chance.choice([Kind.BLOCK, Kind.UNBLOCK]), "service:arena")
        writer.record([of_service, *(anything(chance) for _ in range(10))])

        assert selectors.reader._read_database(QUESTIONS).answers == by_counting(monkeypatch)

    assert at_head(rank_indexer).keys, "nothing was looked up"


def test_what_is_above_a_row_is_mostly_known(rank_indexer: RankIndexer) -> None:
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])

    known = built(rank_indexer)

    assert known.above(59) == (0, TOP)
    assert known.above(30) == (28, (31, "user31"))
    assert known.after(28) == (0, (31, "user31"))
    assert known.after(30) == (2, (31, "user31"))


def test_without_them_all_is_counted() -> None:
    assert EMPTY.above(30) == (0, TOP)
    assert EMPTY.after(30) == (30, TOP)


def test_of_another_log_they_say_nothing(rank_indexer: RankIndexer) -> None:
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    built(rank_indexer)

    with log.snapshot() as head:
        assert rank_indexer.at(head._replace(origin="another")) is EMPTY
        assert rank_indexer.at(head._replace(seq=head.seq - 1)) is EMPTY
        assert rank_indexer.at(head._replace(seq=head.seq + rank_index.MAX_LAG_EVENTS + 1)) is EMPTY


def test_events_that_the_log_no_longer_has_are_missed(rank_indexer: RankIndexer) -> None:
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    before = built(rank_indexer)
    rank_indexer.stop()  # given up, but nobody else moves them
    rank_indexer._newest = before
    writer.record([Change(Kind.INCREMENT, USERS[0], 100), Change(Kind.INCREMENT, USERS[0], 1)])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM score_events WHERE seq = 61")

    with log.snapshot() as head:
        assert rank_indexer._moved_to(head) is None


def test_they_are_given_up_when_nobody_asks(rank_indexer: RankIndexer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_index, "IDLE_TIMEOUT_S", 0.2)
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    built(rank_indexer)

    until(lambda: rank_indexer._thread is None)

    assert rank_indexer._newest is None


def test_they_are_given_up_with_the_connection(rank_indexer: RankIndexer) -> None:
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    others = backends()
    built(rank_indexer)

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", [list(backends() - others)])

    until(lambda: rank_indexer._newest is None)


def test_they_are_given_up_with_a_table_that_is_missing(
    rank_indexer: RankIndexer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which the readers tell: an indexer that told it as well would do so twice a second."""
    monkeypatch.setattr(rank_index, "MAX_AGE_S", 0.0)
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    built(rank_indexer)

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE blocks RENAME TO blocks_away")
        try:
            at_head(rank_indexer)
            until(lambda: rank_indexer._thread is None)
        finally:
            cursor.execute("ALTER TABLE blocks_away RENAME TO blocks")

    assert rank_indexer._newest is None
    assert caplog.records == []


def test_they_are_surveyed_anew_after_a_while(rank_indexer: RankIndexer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever edits the table by hand writes no event."""
    monkeypatch.setattr(rank_index, "MAX_AGE_S", 0.2)
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    built(rank_indexer)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM user_scores WHERE score > 30")

    until(lambda: at_head(rank_indexer).above(0)[0] < 30)
