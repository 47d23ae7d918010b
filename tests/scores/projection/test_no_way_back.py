"""What was told once is not taken back: after an outage the copy is not read before it has what came meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from scores import metrics, selectors, services
from scores.board import LEADERBOARD
from scores.exceptions import CopyUnusable
from scores.log.head import log
from scores.projection import leaderboard as module
from scores.projection.leaderboard import Entry, PageQuestion, leaderboard
from scores.projection.tail import Tail
from scores.selectors import Source
from tests.scores.conftest import copy_is_true, hooks_lost, stopped

pytestmark = pytest.mark.usefixtures("copy")

NEW = [Entry(1, "ann", 30)]


def correct(total: int) -> None:
    services.correct(user_id="ann", total=total, actor="test", reason="test")


@pytest.fixture(autouse=True)
def old_board(copy: Redis) -> None:
    correct(10)


def told() -> tuple[object, Source]:
    (page,) = selectors.reader.answer_questions([PageQuestion(10, 0)])
    assert isinstance(page, selectors.Page)
    return page.entries, page.source


def answer_again() -> None:
    """Close the circuit breaker, as the first look of the tail does, before it does more."""
    assert leaderboard.state() is not None


def test_what_the_database_told_is_not_taken_back(copy: Redis) -> None:
    state: Any = copy.dump(LEADERBOARD.state_key)
    with hooks_lost():
        correct(30)
    copy.delete(LEADERBOARD.state_key)
    assert told() == (NEW, Source.DATABASE)

    copy.restore(LEADERBOARD.state_key, 0, state)

    assert told() == (NEW, Source.DATABASE)
    leaderboard.catch_up(log.head())
    assert told() == (NEW, Source.REDIS)


def test_nor_is_what_this_process_committed_while_redis_was_silent(copy: Redis) -> None:
    with stopped(copy):
        assert told()[1] is Source.DATABASE  # and the copy is asked no more, or it would get the commit when it wakes
        correct(30)
    answer_again()

    assert told() == (NEW, Source.DATABASE)


def test_nor_what_others_committed_in_that_time(copy: Redis) -> None:
    with stopped(copy):
        with hooks_lost():
            correct(30)
        with pytest.raises(CopyUnusable):
            Tail(leaderboard).check()
    answer_again()

    assert told() == (NEW, Source.DATABASE)


def test_a_copy_is_not_read_between_the_steps_of_catching_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CATCH_UP_EVENTS", 2)
    with hooks_lost():
        for total in (26, 27, 28, 29, 30):
            correct(total)
    between: list[object] = []

    leaderboard.catch_up(log.head(), between_steps=lambda: between.append(told()))

    assert between == [(NEW, Source.DATABASE)] * 2
    assert told() == (NEW, Source.REDIS)


def test_a_tail_that_catches_up_for_long_still_looks_at_the_end_of_the_log(
    copy: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the database would seem to be away: the age would grow, and the process would not be ready."""
    monkeypatch.setattr(module, "CATCH_UP_EVENTS", 2)
    tail = Tail(leaderboard)
    with hooks_lost():
        for total in (26, 27, 28, 29, 30):
            correct(total)
    tail.check()  # what is missing might only be late
    before = looks()

    tail.check()

    assert looks() - before == 1 + 2
    assert copy_is_true(copy)


def looks() -> float:
    """How often a head of the log was read by a tail of this process."""
    samples = [sample for metric in metrics.database_seconds.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_count"))


def test_before_its_tail_has_looked_a_process_tells_no_old_board() -> None:
    """As a process does that has just started, whose tail has not compared the two: the age would be a lie."""
    with hooks_lost():
        correct(30)

    assert told() == (NEW, Source.DATABASE)


def test_a_tail_that_has_just_started_has_no_age() -> None:
    tail = Tail(leaderboard)
    with log.try_rebuild_lock():
        tail.start()
        try:
            assert max(tail.age_s, tail.silence_s) < 60
        finally:
            tail.stop()
