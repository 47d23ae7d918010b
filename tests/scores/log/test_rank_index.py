"""Ranks and far pages from the database: by milestones they are what counting says, after whatever happened since."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from django.db import connection

from scores import selectors
from scores.log import head as log
from scores.log import rank_index, writer
from scores.log.ledger import Change, Kind
from scores.log.rank_index import NONE, TOP, Milestones, Surveyor
from scores.projection.leaderboard import Entry, PageQuestion, Question, StandingQuestion
from tests.scores.conftest import until

USERS = [f"user{n}" for n in range(60)]
QUESTIONS: list[Question] = [
    *(StandingQuestion(user) for user in [*USERS, "nobody"]),
    *(PageQuestion(7, offset) for offset in range(0, 70, 3)),
]


@pytest.fixture
def surveyor(board: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Surveyor]:
    """Milestones that are four rows apart, for boards of any length."""
    surveyor = Surveyor(every=4)
    monkeypatch.setattr(rank_index, "surveyor", surveyor)
    monkeypatch.setattr(rank_index, "FEW", 0)
    monkeypatch.setattr(rank_index, "EVERY", 0)
    log.head()
    yield surveyor
    surveyor.stop()


def backends() -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        return {pid for (pid,) in cursor.fetchall()}


def at_head(surveyor: Surveyor) -> Milestones:
    with log.snapshot() as head:
        return surveyor.at(head)


def surveyed(surveyor: Surveyor) -> Milestones:
    until(lambda: at_head(surveyor) is not NONE)
    return at_head(surveyor)


def by_counting(monkeypatch: pytest.MonkeyPatch) -> list[list[Entry] | Entry | None]:
    with monkeypatch.context() as patch:
        patch.setattr(rank_index, "FEW", 1_000_000)
        return selectors._read_database(QUESTIONS).answers


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
def test_answers_are_those_of_counting(seed: int, surveyor: Surveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    writer.record([anything(chance) for _ in range(100)])
    surveyed(surveyor)

    for _ in range(30):
        writer.record([anything(chance) for _ in range(10)])

        assert selectors._read_database(QUESTIONS).answers == by_counting(monkeypatch)

    assert at_head(surveyor).keys, "nothing was looked up"


def test_what_is_above_a_row_is_mostly_known(surveyor: Surveyor) -> None:
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])

    known = surveyed(surveyor)

    assert known.above(59) == (0, TOP)
    assert known.above(30) == (28, (31, "user31"))
    assert known.after(28) == (0, (31, "user31"))
    assert known.after(30) == (2, (31, "user31"))


def test_without_them_all_is_counted() -> None:
    assert NONE.above(30) == (0, TOP)
    assert NONE.after(30) == (30, TOP)


def test_of_another_log_they_say_nothing(surveyor: Surveyor) -> None:
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    surveyed(surveyor)

    with log.snapshot() as head:
        assert surveyor.at(head._replace(origin="another")) is NONE
        assert surveyor.at(head._replace(seq=head.seq - 1)) is NONE
        assert surveyor.at(head._replace(seq=head.seq + rank_index.MOST_BEHIND + 1)) is NONE


def test_events_that_the_log_no_longer_has_are_missed(surveyor: Surveyor) -> None:
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    before = surveyed(surveyor)
    surveyor.stop()  # given up, but nobody else moves them
    surveyor._newest = before
    writer.record([Change(Kind.INCREMENT, USERS[0], 100), Change(Kind.INCREMENT, USERS[0], 1)])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM score_events WHERE seq = 61")

    with log.snapshot() as head:
        assert surveyor._moved_to(head) is None


def test_they_are_given_up_when_nobody_asks(surveyor: Surveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_index, "UNUSED_S", 0.2)
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    surveyed(surveyor)

    until(lambda: surveyor._thread is None)

    assert surveyor._newest is None


def test_they_are_given_up_with_the_connection(surveyor: Surveyor) -> None:
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    others = backends()
    surveyed(surveyor)

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", [list(backends() - others)])

    until(lambda: surveyor._newest is None)


def test_they_are_surveyed_anew_after_a_while(surveyor: Surveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever edits the table by hand writes no event."""
    monkeypatch.setattr(rank_index, "LAST_S", 0.2)
    writer.record([Change(Kind.CORRECTION, user, n) for n, user in enumerate(USERS)])
    surveyed(surveyor)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM user_scores WHERE score > 30")

    until(lambda: at_head(surveyor).above(0)[0] < 30)
