"""What the comparison of the copy with the tables finds, and what it does not take for a difference."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from django.db import connection
from redis import Redis

from scores import services
from scores.board import LEADERBOARD
from scores.log.head import log
from scores.models import UserScore
from scores.projection import verification
from scores.projection.leaderboard import leaderboard
from scores.projection.verification import Difference, compare
from tests.scores.conftest import hooks_lost


@pytest.fixture(autouse=True)
def _players(copy: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three on the board, and one off it; in chunks of two, so that there is more than one."""
    monkeypatch.setattr(verification, "CHUNK", 2)
    for user_id, total in (("ann", 30), ("ben", 20), ("cem", 10), ("eve", 99)):
        services.correct(user_id=user_id, total=total, actor="test", reason="start")
    services.block(user_id="eve", actor="test", reason="cheats")


def test_an_untouched_copy_is_equal() -> None:
    found = compare(leaderboard)

    assert found.equal
    assert (found.compared, found.differences, found.fault) == (3, [], None)
    assert found.state == (found.head.origin, 5, 3, 3, found.head.mark, 5)


def test_progress_ends_at_all_of_both_stores() -> None:
    told: list[tuple[int, int]] = []

    compare(leaderboard, progress=lambda done, total: told.append((done, total)))

    assert told == sorted(told)
    assert told[-1] == (6, 6)


@pytest.mark.parametrize("score", [31, 30.5, float("inf")])
def test_a_score_changed_by_hand_is_found(score: float, copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {"ann": score})

    found = compare(leaderboard)

    assert found.differences == [Difference("ann", 30, score)]
    assert (found.fault, found.equal) == (None, False)


def test_a_total_changed_by_hand_is_found() -> None:
    UserScore.objects.filter(user_id="ben").update(score=21)

    assert compare(leaderboard).differences == [Difference("ben", 21, 20)]


def test_a_member_taken_away_is_found(copy: Redis) -> None:
    copy.zrem(LEADERBOARD.key, "cem")

    found = compare(leaderboard)

    assert found.differences == [Difference("cem", 10, None)]
    assert found.fault == "damaged"


@pytest.mark.parametrize("member", [b"dan", b"\xff\xfe", b"nul\0", b"x" * 1000])
def test_a_member_that_was_added_is_found(member: bytes, copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {member: 5})

    found = compare(leaderboard)

    user_id = member.decode(errors="surrogateescape")
    assert found.differences == [Difference(user_id, None, 5)]
    assert (found.compared, found.fault) == (4, "damaged")


def test_a_blocked_user_who_shows_is_found(copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {"eve": 99})

    assert compare(leaderboard).differences == [Difference("eve", None, 99)]


def test_differences_come_by_user_id(copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {"ann": 1, "ben": 2, "cem": 3})

    assert [difference.user_id for difference in compare(leaderboard).differences] == ["ann", "ben", "cem"]


def test_a_missing_copy_is_a_fault_and_not_a_difference_of_everyone(copy: Redis) -> None:
    copy.flushdb()

    found = compare(leaderboard)

    assert (found.state, found.fault, found.equal) == (None, "missing", False)
    assert (found.compared, found.differences) == (0, [])


def test_the_copy_of_another_log_is_a_fault(copy: Redis) -> None:
    copy.hset(LEADERBOARD.state_key, "origin", "elsewhere")

    found = compare(leaderboard)

    assert (found.fault, found.compared, found.equal) == ("foreign", 0, False)


def test_a_copy_ahead_of_its_log_is_a_fault(copy: Redis) -> None:
    copy.hset(LEADERBOARD.state_key, "seq", "9")

    assert compare(leaderboard).fault == "ahead"


def test_a_count_that_is_not_the_log_s_is_a_fault(copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {"dan": 5})
    copy.hset(LEADERBOARD.state_key, "members", "4")

    assert compare(leaderboard).fault == "damaged"


def increment_unseen_by_redis() -> None:
    with hooks_lost():
        services.correct(user_id="ann", total=31, actor="test", reason="unseen")


def test_what_a_copy_that_stays_behind_has_not_seen_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "CATCH_UP_TIMEOUT_S", 0)
    monkeypatch.setattr(verification, "PAUSE_S", 0)
    increment_unseen_by_redis()

    found = compare(leaderboard)

    assert (found.fault, found.differences, found.unsettled, found.equal) == ("behind", [], 1, False)


def catch_up() -> None:
    leaderboard.catch_up(log.head())
    connection.close()


def test_a_copy_that_catches_up_meanwhile_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "CATCH_UP_TIMEOUT_S", 30.0)
    increment_unseen_by_redis()
    tail = threading.Timer(0.3, catch_up)
    tail.start()

    found = compare(leaderboard)
    tail.join()

    assert found.equal
    assert found.state is not None
    assert found.state.seq == 6


def test_a_change_that_the_copy_lost_after_the_user_was_passed_by_is_found(copy: Redis) -> None:
    def lose_a_change(done: int, total: int) -> None:
        if done == 3:  # everyone in the table was equal
            services.correct(user_id="ann", total=31, actor="test", reason="late")
            copy.zadd(LEADERBOARD.key, {"ann": 30})

    found = compare(leaderboard, progress=lose_a_change)

    assert found.differences == [Difference("ann", 31, 30)]


@contextmanager
def writes_going_on() -> Iterator[None]:
    """Old users rise and fall, new ones come, one is blocked and unblocked, as fast as they can."""
    ended = threading.Event()

    def write() -> None:
        for turn in count(1):
            for user_id, total in (("ann", turn), ("ben", 1_000_000 - turn), (f"new{turn}", turn)):
                services.correct(user_id=user_id, total=total, actor="test", reason="busy")
            services.block(user_id="cem", actor="test", reason="busy")
            services.unblock(user_id="cem", actor="test", reason="busy")
            if ended.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def test_writes_that_go_on_are_no_differences() -> None:
    with writes_going_on():
        first = compare(leaderboard)
        found = [compare(leaderboard) for _ in range(10)]

    assert [f for f in found if not f.equal] == []
    assert found[-1].head.seq > first.head.seq


def test_a_difference_is_found_among_writes_that_go_on(copy: Redis) -> None:
    services.correct(user_id="dan", total=5, actor="test", reason="start")
    copy.zadd(LEADERBOARD.key, {"dan": 6})

    with writes_going_on():
        found = compare(leaderboard)

    assert found.differences == [Difference("dan", 5, 6)]
    assert (found.unsettled, found.fault) == (0, None)
