"""The sweep: a total that somebody changed by hand is found, wherever it is, and nothing else is touched."""

from __future__ import annotations

from contextlib import suppress

import pytest
from redis import Redis

from scores import services
from scores.exceptions import Damaged
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import UserScore
from scores.projection import scrub
from scores.projection.leaderboard import PageQuestion, leaderboard
from scores.projection.scrub import Scrub
from scores.projection.tail import Tail
from tests.polling import until
from tests.scores.conftest import copy_is_true, hooks_lost

pytestmark = pytest.mark.usefixtures("many_players")


@pytest.fixture
def many_players(copy: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """25 users, in three steps."""
    monkeypatch.setattr(scrub, "MEMBERS_PER_STEP", 10)
    writer.record([Change(Kind.INCREMENT, f"user{number:02}", number + 1) for number in range(25)])


def walk(walker: Scrub) -> list[int]:
    """How many were mended, step by step, over one round."""
    rounds = walker.rounds
    mended = []
    while walker.rounds == rounds:
        mended.append(walker.step())
    return mended


def test_an_honest_copy_is_compared_and_left_alone(copy: Redis) -> None:
    walker = Scrub(leaderboard)

    assert walk(walker) == [0, 0, 0]
    assert (walker.compared, walker.repaired) == (25, 0)


@pytest.mark.parametrize("user_id", ["user00", "user09", "user10", "user24"])
def test_a_score_changed_by_hand_is_mended_wherever_it_is(user_id: str, copy: Redis) -> None:
    copy.zincrby("leaderboard", 1000, user_id)
    walker = Scrub(leaderboard)

    walk(walker)

    assert copy_is_true(copy)
    assert (walker.compared, walker.repaired) == (25, 1)


def test_it_begins_anew_after_the_last(copy: Redis) -> None:
    walker = Scrub(leaderboard)
    walk(walker)
    copy.zadd("leaderboard", {"user03": 0, "user23": 0})

    assert walk(walker) == [1, 0, 1]


def test_one_removed_and_one_added_are_seen_though_the_size_is_right(copy: Redis) -> None:
    copy.zrem("leaderboard", "user05")
    copy.zadd("leaderboard", {"eve": 1})

    assert Scrub(leaderboard).step() == 1  # user05 is back, and one is too many now

    with pytest.raises(Damaged):
        leaderboard.read(log.head().origin, [PageQuestion(10, 0)])


def test_whoever_has_an_event_on_its_way_is_not_wrong(copy: Redis) -> None:
    with hooks_lost():
        writer.record([Change(Kind.INCREMENT, "user03", 5)])
    copy.zadd("leaderboard", {"user04": 77})

    assert Scrub(leaderboard).step() == 1

    assert copy_is_true(copy)  # the copy was caught up on the way


def test_the_blocked_are_not_missed(copy: Redis) -> None:
    services.block(user_id="user03", actor="test", reason="test")

    assert sum(walk(Scrub(leaderboard))) == 0
    assert copy_is_true(copy)


def test_a_late_total_is_not_taken_back(copy: Redis) -> None:
    """What was compared may be old by the time it is mended: under the lock it is looked at again."""
    copy.zadd("leaderboard", {"user03": 77})
    writer.record([Change(Kind.INCREMENT, "user03", 5)])

    assert scrub.mend(leaderboard, ["user03", "user04"]) == 0
    assert copy_is_true(copy)


def test_a_total_that_was_deleted_by_hand_leaves_the_board(copy: Redis) -> None:
    UserScore.objects.filter(user_id="user00").delete()
    tail = Tail(leaderboard)

    def is_mended() -> bool:
        with suppress(Damaged):  # while the head is not mended yet
            tail.check()
        return copy_is_true(copy) and copy.zscore("leaderboard", "user00") is None

    until(is_mended)
