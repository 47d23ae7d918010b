"""Two followers at once, and hands that change Redis: what one of them read is old when it writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from redis import Redis

from scores.board import LEADERBOARD
from scores.boards import definitions, scripts, standings
from scores.boards import follower as follower_module
from scores.boards.copies import BoardCopies
from scores.boards.fold import rules_of
from scores.boards.follower import BoardFollower
from scores.exceptions import BoardFixed
from scores.log.head import log
from scores.log.periods import roll_over_if_due
from scores.models import Board, BoardStanding, Leaderboard, Period
from scores.selectors import Source
from tests.scores.conftest import be_ahead, by_another_thread

from .test_follower import add, both, make, page, settle


class Held(BoardCopies):
    """Copies that let others go first, once, before a script runs."""

    def __init__(self, script: str, others: Callable[[], object]) -> None:
        super().__init__(LEADERBOARD)
        self._script, self._others = script, others
        self.swapped = 0

    def _run(self, body: str, *args: Any, **options: Any) -> list[Any]:
        self.swapped += body == scripts.SWAP
        if body == self._script:
            self._script = ""
            self._others()
        return super()._run(body, *args, **options)


@pytest.fixture(autouse=True)
def _ahead(board: None) -> None:
    be_ahead()


def next_hour() -> None:
    Leaderboard.objects.update(at=Leaderboard.objects.get().at + timedelta(hours=1))  # type: ignore[operator]
    roll_over_if_due(log)


def test_a_copy_that_moves_during_the_look_is_not_made_again(follower: BoardFollower, copies: BoardCopies) -> None:
    make("ever")
    add("ann")
    settle(follower)

    def others() -> None:
        add("bob")
        follower.fold()

    held = Held(scripts.STATE, lambda: by_another_thread(others))
    BoardFollower(log, held).tend()

    assert held.swapped == 0


def test_a_copy_that_another_process_set_back_moves_on(
    follower: BoardFollower, copies: BoardCopies, reader: Any, redis: Redis
) -> None:
    board = make("ever")
    add("ann")
    settle(follower)
    add("ann", 4)
    follower.fold()
    origin = log.head().origin
    copies.leave(origin, board.id, copies.state(origin))
    BoardFollower(log, copies).tend()  # from the standings, which are at event 1
    assert not follower.fold()

    follower.tend()
    follower.fold()

    assert page(reader, "ever") == [(1, 1, "ann", 5)]


def test_periods_that_have_left_do_not_come_back_empty(follower: BoardFollower, copies: BoardCopies) -> None:
    board = make("hours", period="hourly")
    add("ann")
    settle(follower)
    origin = log.head().origin
    state = copies.state(origin)

    copies.leave(origin, board.id, state, from_period=4)
    copies.leave(origin, board.id, state, from_period=3)

    assert copies.state(origin).boards[board.id].from_period == 4


def test_an_older_copy_takes_no_period_of_a_newer_one(
    follower: BoardFollower, copies: BoardCopies, reader: Any, redis: Redis
) -> None:
    make("hours", period="hourly")
    add("ann")
    follower.build()
    follower.project()
    follower.tend()  # begins a state, without boards

    def others() -> None:
        next_hour()
        add("ann", 5)
        settle(BoardFollower(log, copies))

    BoardFollower(log, Held(scripts.SWAP, lambda: by_another_thread(others))).tend()
    settle(BoardFollower(log, copies))

    assert both(reader, redis, "hours") == [(1, 1, "ann", 5)]


@pytest.mark.parametrize("noticed_by", ["read", "fold"])
def test_a_set_where_there_should_be_none_is_removed(
    noticed_by: str, follower: BoardFollower, reader: Any, redis: Redis
) -> None:
    board = make("ever", ties="id")
    make("other")
    settle(follower)
    redis.zadd(LEADERBOARD.period_keys(board.id, 1)[0], {"eve": 5})
    if noticed_by == "read":
        page(reader, "ever", Source.DATABASE)
    else:
        add("ann")
        follower.fold()
    settle(follower)

    assert page(reader, "ever") == ([(1, 1, "ann", 1)] if noticed_by == "fold" else [])


def test_a_board_without_rows_for_the_present_is_not_built(follower: BoardFollower, reader: Any, redis: Redis) -> None:
    board = make("hours", period="hourly")
    Leaderboard.objects.update(at=Leaderboard.objects.get().at + timedelta(days=30))  # type: ignore[operator]
    add("ann")

    with pytest.raises(standings.Raced):
        standings.build(log, rules_of(board))

    settle(follower)
    assert both(reader, redis, "hours") == [(1, 1, "ann", 1)]


def test_a_board_that_is_gone_leaves_no_standings(board: None) -> None:
    rules = rules_of(make("ever"))
    add("ann")
    definitions.delete("ever")

    with pytest.raises(standings.Raced):
        standings.build(log, rules)

    assert not BoardStanding.objects.exists()
    assert not Board.objects.exists()


def test_a_period_that_is_no_longer_kept_is_there_whole_or_not_at_all(
    follower: BoardFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "FORGOTTEN_AT_ONCE", 2)
    make("hours", period="hourly", keep=0)
    for user in ("ann", "bob", "cid"):
        add(user)
    next_hour()
    follower.build()
    follower.project()
    Period.objects.exclude(last_seq=None).update(closed_at=Now())  # one that has not closed stays
    seen = set()
    for _ in range(3):
        follower.tend()
        seen.add((Period.objects.filter(number=1).exists(), BoardStanding.objects.count()))

    assert seen <= {(True, 3), (False, 3), (False, 1), (False, 0)}
    assert (False, 0) in seen


def test_seasons_that_have_ended_still_define_their_board(follower: BoardFollower) -> None:
    add("ann")
    at = Leaderboard.objects.get().at
    assert at is not None
    seasons = [
        {"startsAt": f"{at + timedelta(hours=n):%FT%TZ}", "endsAt": f"{at + timedelta(hours=n + 1):%FT%TZ}"}
        for n in range(1, 5)
    ]
    make("cup", period="season", seasons=seasons[:3], keep=0)
    for _ in range(4):
        next_hour()
        add("ann")
        settle(follower)

    with pytest.raises(BoardFixed):
        definitions.change("cup", {"seasons": seasons[1:3]})  # those that have begun cannot go
    changed = definitions.change("cup", {"seasons": [*seasons[:3], later(seasons[3])]})

    assert len(changed.after.seasons) == 4
    assert list(Period.objects.values_list("number", flat=True)) == [1, 2, 3, 4]


def later(season: dict[str, str]) -> dict[str, str]:
    return {name: moment.replace(moment[:4], str(int(moment[:4]) + 1)) for name, moment in season.items()}
