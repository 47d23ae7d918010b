"""What somebody else wrote into the set, without changing its size, is neither shown nor stumbled over."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import pytest
from django.db import connection
from redis import Redis

from scores import selectors, services
from scores.board import LEADERBOARD
from scores.exceptions import Damaged, Gap
from scores.log.head import log
from scores.models import UserScore
from scores.projection import leaderboard as leaderboard_module
from scores.projection import verification
from scores.projection.leaderboard import Entry, PageQuestion, leaderboard
from scores.projection.scrub import Scrub
from scores.projection.tail import Tail
from scores.selectors import Source
from scores.stores.redis import breaker
from tests.scores.conftest import copy_is_true, hooks_lost, rebuilds

pytestmark = pytest.mark.usefixtures("two_players")


@pytest.fixture
def two_players(copy: Redis) -> None:
    for user_id, total in (("ann", 30), ("ben", 20)):
        services.correct(user_id=user_id, total=total, actor="test", reason="start")


def top() -> tuple[object, Source]:
    (page,) = selectors.reader.answer_questions([PageQuestion(10, 0)])
    assert isinstance(page, selectors.Page)
    return page.entries, page.source


@pytest.mark.parametrize("score", [30.5, float("inf"), 1e300])
def test_a_score_that_is_no_total_is_read_from_the_database_until_it_is_mended(score: float, copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {"ann": score})
    whole = [Entry(1, "ann", 30), Entry(2, "ben", 20)]

    assert top() == (whole, Source.DATABASE)
    assert Scrub(leaderboard).step() == 1
    assert top() == (whole, Source.REDIS)


def test_so_is_a_board_with_a_member_that_is_no_text(copy: Redis) -> None:
    copy.zrem(LEADERBOARD.key, "ann")
    copy.zadd(LEADERBOARD.key, {b"\xff": 40})

    assert top() == ([Entry(1, "ann", 30), Entry(2, "ben", 20)], Source.DATABASE)


@pytest.mark.parametrize("value", ["2e1", "nan", "inf", "0x14", "abc", "", "10.5", "-1", "02", "1" * 17, b"\xff"])
@pytest.mark.parametrize("field", ["seq", "members", "origin", "mark"])
def test_whatever_is_in_the_state_the_copy_is_whole_or_it_is_rebuilt(
    field: str, value: str | bytes, copy: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "CATCH_UP_TIMEOUT_S", 0.0)  # there is no tail to wait for
    copy.hset(LEADERBOARD.state_key, field, value)  # type: ignore[arg-type]  # bytes are text to Redis

    entries, source = top()
    verification.compare(leaderboard)
    Scrub(leaderboard).step()
    Tail(leaderboard).check()

    assert entries == [Entry(1, "ann", 30), Entry(2, "ben", 20)]
    assert source is Source.DATABASE
    assert top() == (entries, Source.REDIS)
    services.correct(user_id="ann", total=31, actor="test", reason="test")
    assert top() == ([Entry(1, "ann", 31), Entry(2, "ben", 20)], Source.REDIS)


def board_in_database() -> list[tuple[str, int]]:
    return list(UserScore.objects.order_by("-score").values_list("user_id", "score"))


def is_right_or_from_the_database() -> bool:
    entries, source = top()
    shown = [(entry.user_id, entry.score) for entry in cast("list[Entry]", entries)]
    return source is Source.DATABASE or shown == board_in_database()


@pytest.mark.parametrize("events", [1, 2, 3, 7])
@pytest.mark.parametrize("by", [1, 2, 3, 1000, -1, -2, -1000])
def test_a_seq_that_was_moved_alone_hides_no_event(by: int, events: int, copy: Redis) -> None:
    """However many follow before a tail looks: fewer than were skipped, as many, or more."""
    copy.hincrby(LEADERBOARD.state_key, "seq", by)
    assert top() == ([Entry(1, "ann", 30), Entry(2, "ben", 20)], Source.DATABASE)

    for number in range(events):
        services.correct(user_id=f"cid{number % 2}", total=100 + number, actor="test", reason="test")
        assert is_right_or_from_the_database()
    Tail(leaderboard).check()

    assert top()[1] is Source.REDIS
    assert copy_is_true(copy)


def test_nor_does_one_of_a_copy_that_lost_its_mark(copy: Redis) -> None:
    copy.hdel(LEADERBOARD.state_key, "mark")
    copy.hincrby(LEADERBOARD.state_key, "seq", 1)
    services.correct(user_id="ann", total=31, actor="test", reason="test")
    assert is_right_or_from_the_database()

    Tail(leaderboard).check()

    assert top()[1] is Source.REDIS
    assert copy_is_true(copy)


def test_what_an_earlier_version_moved_is_not_set_back(copy: Redis) -> None:
    """It leaves the mark. A late worker of this version then brings an event from in between."""
    for total in (31, 32, 33):
        services.correct(user_id="ann", total=total, actor="test", reason="test")
    moved_by_an_earlier_version(copy, 2)

    with pytest.raises(Gap):
        leaderboard.apply(origin=log.head().origin, first=3, last=3, totals={"ann": 31})

    assert copy.zscore(LEADERBOARD.key, "ann") == 33


def test_nor_in_steps_of_catching_up(copy: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboard_module, "CATCH_UP_EVENTS", 3)
    for total in range(31, 40):
        services.correct(user_id="ann", total=total, actor="test", reason="test")
    moved_by_an_earlier_version(copy, 2)

    services.correct(user_id="ben", total=21, actor="test", reason="test")
    assert copy.zscore(LEADERBOARD.key, "ann") == 39
    Tail(leaderboard).check()

    assert copy_is_true(copy)


def moved_by_an_earlier_version(copy: Redis, since: int) -> None:
    """It leaves the mark of event `since`."""
    copy.hset(LEADERBOARD.state_key, "mark", f"{since}:{log.mark_of(since)}")


def test_a_copy_that_an_earlier_version_moves_is_caught_up_and_not_rebuilt(copy: Redis) -> None:
    before = rebuilds()

    for total in range(31, 40):
        with hooks_lost():
            seq = services.correct(user_id="ann", total=total, actor="test", reason="test").seq
        copy.zadd(LEADERBOARD.key, {"ann": total})
        copy.hset(LEADERBOARD.state_key, mapping={"seq": seq, "members": 2})
        assert is_right_or_from_the_database()
        Tail(leaderboard).check()
        assert top()[1] is Source.REDIS

    assert rebuilds() == before
    assert copy_is_true(copy)


def test_a_copy_that_went_back_is_not_read(copy: Redis) -> None:
    """An old RDB file is whole, and of the right log; but this process has told a newer state already."""
    old = {key: copy.dump(key) for key in (LEADERBOARD.key, LEADERBOARD.state_key)}
    services.correct(user_id="ben", total=40, actor="test", reason="test")
    assert top() == ([Entry(1, "ben", 40), Entry(2, "ann", 30)], Source.REDIS)

    for key, value in old.items():
        copy.restore(key, 0, value, replace=True)  # type: ignore[arg-type]

    assert top() == ([Entry(1, "ben", 40), Entry(2, "ann", 30)], Source.DATABASE)


def test_a_mark_of_any_length_is_no_reason_to_stand_still(copy: Redis) -> None:
    copy.hset(LEADERBOARD.state_key, "mark", "2:" + "9" * 5_000)

    Tail(leaderboard).check()
    services.correct(user_id="ann", total=31, actor="test", reason="test")

    assert top() == ([Entry(1, "ann", 31), Entry(2, "ben", 20)], Source.REDIS)


@pytest.mark.parametrize("value", [b"\xff\xfe", b"{}", b'{"a":[1]}', b"[1e300,1,1,1,1]", b'[NaN,1,1,1,"x"]', b"[]"])
def test_a_report_of_a_rebuild_that_nobody_wrote_is_none(value: bytes, copy: Redis) -> None:
    copy.set(LEADERBOARD.rebuilt_key, value)
    assert leaderboard.last_rebuild() is None

    copy.delete(LEADERBOARD.rebuilt_key)
    copy.rpush(LEADERBOARD.rebuilt_key, "x")
    assert leaderboard.last_rebuild() is None
    assert not breaker.is_open


def test_a_head_that_miscounts_is_mended_once(copy: Redis) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE leaderboards SET members = members + 2")

    for _ in range(3):
        with suppress(Damaged):
            Tail(leaderboard).check()

    assert log.head().members == 2
    assert top() == ([Entry(1, "ann", 30), Entry(2, "ben", 20)], Source.REDIS)


def test_a_head_that_was_set_back_or_lost_goes_on_behind_its_events(copy: Redis) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE leaderboards SET seq = seq - 1")
        assert services.correct(user_id="ann", total=31, actor="test", reason="test").seq == 3
        cursor.execute("DELETE FROM leaderboards")

    assert services.correct(user_id="ann", total=32, actor="test", reason="test").seq == 4
    assert log.head().members == 2


def test_an_event_without_a_time_stops_nobody(copy: Redis) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE score_events SET created_at = 'infinity' WHERE seq = 2")

    assert services.correct(user_id="ann", total=31, actor="test", reason="test").seq == 3
