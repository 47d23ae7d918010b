"""What somebody else wrote into the set, without changing its size, is neither shown nor stumbled over."""

from __future__ import annotations

import pytest
from redis import Redis

from scores import selectors, services
from scores.board import LEADERBOARD
from scores.projection import verification
from scores.projection.leaderboard import Entry, PageQuestion, leaderboard
from scores.projection.scrub import Scrub
from scores.projection.tail import Tail
from scores.selectors import Source

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
    field: str, value: str | bytes, copy: Redis
) -> None:
    copy.hset(LEADERBOARD.state_key, field, value)  # type: ignore[arg-type]  # bytes are text to Redis

    entries, source = top()
    verification.compare(leaderboard)
    Scrub(leaderboard).step()
    Tail(leaderboard).check()

    assert entries == [Entry(1, "ann", 30), Entry(2, "ben", 20)]
    assert source is Source.DATABASE or field == "mark"
    assert top() == (entries, Source.REDIS)
    services.correct(user_id="ann", total=31, actor="test", reason="test")
    assert top() == ([Entry(1, "ann", 31), Entry(2, "ben", 20)], Source.REDIS)


def test_a_copy_that_went_back_is_not_read(copy: Redis) -> None:
    """An old RDB file is whole, and of the right log; but this process has told a newer state already."""
    old = {key: copy.dump(key) for key in (LEADERBOARD.key, LEADERBOARD.state_key)}
    services.correct(user_id="ben", total=40, actor="test", reason="test")
    assert top() == ([Entry(1, "ben", 40), Entry(2, "ann", 30)], Source.REDIS)

    for key, value in old.items():
        copy.restore(key, 0, value, replace=True)  # type: ignore[arg-type]

    assert top() == ([Entry(1, "ben", 40), Entry(2, "ann", 30)], Source.DATABASE)
