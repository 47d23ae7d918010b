"""Boards follow the log, in Redis and in PostgreSQL, and are read from either."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from redis import Redis

from scores import board_selectors
from scores.board import LEADERBOARD
from scores.board_selectors import BoardPage, PageOf, PlaceOf
from scores.boards import comparison, definitions, history, standings
from scores.boards import follower as follower_module
from scores.boards.copies import BoardCopies, Building
from scores.boards.documents import parse
from scores.boards.fold import Rules, rules_of
from scores.boards.follower import BoardFollower
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Board, BoardPosition
from scores.selectors import Source
from tests.scores.conftest import be_ahead, by_another_thread


def make(name: str, **fields: Any) -> Board:
    return definitions.create(parse({"name": name, "fold": "sum"} | fields))


def settle(follower: BoardFollower) -> None:
    """Until nothing is left to do."""
    for _ in range(100):
        if not any([follower.build(), follower.project(), follower.tend(), follower.fold()]):
            return
    raise AssertionError("never done")


def add(user_id: str, points: int = 1, **fields: Any) -> None:
    (outcome,) = writer.record([Change(Kind.INCREMENT, user_id, points, **fields)])
    assert not isinstance(outcome, Exception)


def lap(user_id: str, score: int, board: str = "laps") -> None:
    (outcome,) = writer.record([Change(Kind.SCORE, user_id, score, stream=board)])
    assert not isinstance(outcome, Exception)


def page(reader: board_selectors.BoardReader, board: str, source: Source = Source.REDIS) -> list[tuple[Any, ...]]:
    (answer,) = reader.answer([PageOf(board, "current", 100, 0)])
    assert isinstance(answer, BoardPage), answer
    assert answer.source is source
    assert answer.seq == log.head().seq
    return [(e.rank, e.position, e.user_id, board_selectors.score_of(answer.board, e)) for e in answer.entries]


def both(reader: board_selectors.BoardReader, redis: Redis, board: str) -> list[tuple[Any, ...]]:
    """What the copy says, after a look that the standings say the same."""
    from_redis = page(reader, board)
    redis.flushall()
    assert page(reader, board, Source.DATABASE) == from_redis
    return from_redis


def test_a_sum_of_all_points(follower: BoardFollower, reader: Any, redis: Redis) -> None:
    add("ann", 5)
    make("ever")
    settle(follower)
    add("bob", 7)
    add("ann", 2)
    settle(follower)

    assert both(reader, redis, "ever") == [(1, 1, "bob", 7), (1, 2, "ann", 7)]  # bob was first


def test_the_best_lap_is_the_lowest(follower: BoardFollower, reader: Any, redis: Redis) -> None:
    make("laps", fold="best", order="lower", stream=True)
    for user, score in [("ann", 90), ("bob", 80), ("ann", 80), ("cid", -5), ("ann", 85)]:
        lap(user, score)
        settle(follower)

    assert both(reader, redis, "laps") == [(1, 1, "cid", -5), (2, 2, "bob", 80), (2, 3, "ann", 80)]


def test_a_void_finds_the_next_best(follower: BoardFollower, reader: Any, redis: Redis) -> None:
    make("laps", fold="best", stream=True)
    make("newest", fold="latest", ties="id", action="win")
    for score in (5, 9, 7):
        lap("ann", score)
    settle(follower)
    writer.record([Change(Kind.VOID, "ann", voids=2)])
    settle(follower)

    assert both(reader, redis, "laps") == [(1, 1, "ann", 7)]


def test_who_is_blocked_is_on_no_board(follower: BoardFollower, reader: Any, redis: Redis) -> None:
    make("ever")
    add("ann", 5)
    add("bob", 5)
    settle(follower)
    writer.record([Change(Kind.BLOCK, "ann")])
    settle(follower)
    assert page(reader, "ever") == [(1, 1, "bob", 5)]

    writer.record([Change(Kind.UNBLOCK, "ann")])
    settle(follower)
    assert both(reader, redis, "ever") == [(1, 1, "ann", 5), (1, 2, "bob", 5)]


def test_a_place_is_the_same_in_both(follower: BoardFollower, reader: Any, redis: Redis) -> None:
    make("ever", ties="id")
    make("first")
    for user in ("ann", "bob", "cid"):
        add(user, 5)
    add("dan", 9)
    settle(follower)

    def places() -> list[Any]:
        asked = [PlaceOf(board, "current", user, False) for board in ("ever", "first") for user in ("ann", "dan", "x")]
        return [answer.entries for answer in reader.answer(asked)]

    from_redis = places()
    redis.flushall()
    assert places() == from_redis
    assert [(e[0].rank, e[0].position) if e else None for e in from_redis] == [
        (2, 4),
        (1, 1),
        None,
        (2, 2),
        (1, 1),
        None,
    ]


def test_who_builds_a_board_says_how_far_it_is(
    follower: BoardFollower,
    reader: Any,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(history, "SLICE", 2)
    monkeypatch.setattr(history, "PARTS", 2)
    monkeypatch.setattr(follower_module, "TELL_EVERY_S", 0)
    board = make("ever")
    for user in ("ann", "bob", "ann", "cid", "bob"):
        add(user, 5)
    seen: list[Building | None] = []

    def tell(*progress: int) -> None:
        follower._tell(board.pk, *progress)
        by_another_thread(follower.tend)
        seen.append(copies.building())

    copies = BoardCopies(LEADERBOARD)
    follower.tend()  # a state is there, and its periods
    with caplog.at_level("INFO", "scores.boards.follower"):
        standings.build(log, rules_of(board), tell=tell)

    assert seen == [Building(board.pk, percent) for percent in (0, 20, 40, 60, 80, 100)]
    assert caplog.messages.count(f"Board {board.pk} is being built: 40 %") == 1
    settle(follower)
    assert both(reader, redis, "ever") == [(1, 1, "ann", 10), (1, 2, "bob", 10), (3, 3, "cid", 5)]


def test_a_long_build_holds_up_no_other_board(
    follower: BoardFollower, reader: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("ever")
    add("bob")
    settle(follower)
    monkeypatch.setattr(history, "SLICE", 1)
    add("bob")
    young = make("young")
    reached = []

    def others() -> None:
        add("ann")
        follower.project()
        reached.append(BoardPosition.objects.exclude(board=young.pk).get().seq)

    standings.build(log, rules_of(young), tell=lambda *_: by_another_thread(others))

    assert reached == list(range(3, 3 + 1 + 2 + history.PARTS))
    settle(follower)
    assert both(reader, redis, "young") == [(1, 1, "ann", len(reached)), (2, 2, "bob", 2)]


@pytest.mark.parametrize("lost", ["set", "hash", "state", "all", "size", "seq", "foreign", "half", "from", "stray"])
def test_what_is_lost_in_redis_comes_back(lost: str, follower: BoardFollower, reader: Any, redis: Redis) -> None:
    board = make("ever")
    other = make("other", ties="id")
    add("ann", 5)
    add("bob", 6)
    settle(follower)
    key, side = LEADERBOARD.period_keys(board.id, 1)
    match lost:
        case "set":
            redis.delete(key)
        case "hash":
            redis.hdel(side, "ann")
        case "state":
            redis.delete(LEADERBOARD.boards_key)
        case "all":
            redis.flushall()
        case "size":
            redis.zadd(key, {"eve": 5})
        case "seq":
            redis.hdel(LEADERBOARD.boards_key, f"seq:{board.id}")
        case "foreign":
            redis.hset(LEADERBOARD.boards_key, "origin", "another")
        case "half":
            redis.hset(LEADERBOARD.boards_key, "writing", "7")
        case "from":
            redis.hset(LEADERBOARD.boards_key, f"from:{board.id}", "44")
        case "stray":  # and the set, or nobody would look
            redis.delete(key)
            redis.hset(LEADERBOARD.boards_key, f"size:{board.id}:zz", "3")

    assert page(reader, "ever", Source.DATABASE) == [(1, 1, "bob", 6), (2, 2, "ann", 5)]
    settle(follower)

    assert page(reader, "ever") == [(1, 1, "bob", 6), (2, 2, "ann", 5)]
    page(reader, "other")
    add("ann", 2)
    settle(follower)
    assert both(reader, redis, "ever") == [(1, 1, "ann", 7), (2, 2, "bob", 6)]
    assert BoardPosition.objects.get(board=other).seq == 3


def test_several_boards_rank_one_stream(follower: BoardFollower, reader: Any, redis: Redis) -> None:
    be_ahead()
    make("laps", fold="best", order="lower", stream=True)
    lap("ann", 70)
    make("laps-today", fold="latest", order="lower", period="daily", stream="laps")
    settle(follower)
    lap("ben", 60)
    lap("ann", 80)
    settle(follower)

    assert both(reader, redis, "laps") == [(1, 1, "ben", 60), (2, 2, "ann", 70)]
    settle(follower)
    assert both(reader, redis, "laps-today") == [(1, 1, "ben", 60), (2, 2, "ann", 80)]


def test_many_who_are_blocked_at_once_are_moved_in_portions(
    follower: BoardFollower, reader: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that moves all of them, in all periods, would keep everybody from Redis."""
    monkeypatch.setattr(follower_module, "DERIVED_PER_FOLD", 2)
    make("ever")
    for user in ("ann", "bob", "cid", "dan", "eve"):
        add(user)
    settle(follower)
    writer.record([Change(Kind.BLOCK, user) for user in ("ann", "bob", "cid", "dan")])

    assert follower.fold()
    (state,) = BoardCopies(LEADERBOARD).state(log.head().origin).boards.values()
    assert state.seq == 7
    assert not follower.fold()
    assert page(reader, "ever") == [(1, 1, "eve", 1)]


def test_a_sum_adds_none_of_the_numbers_that_an_earlier_board_of_its_name_ranked(
    follower: BoardFollower, reader: Any, redis: Redis
) -> None:
    make("runs", fold="best", stream=True)
    for score in (-(2**53 - 1), -(2**53 - 1), 0, 5):
        lap("ann", score, "runs")
    lap("bob", -7, "runs")
    definitions.delete("runs")
    board = make("runs", stream=True)
    settle(follower)
    lap("ann", 1_000, "runs")
    settle(follower)

    assert all(store.equal for store in comparison.compare(log, BoardCopies(LEADERBOARD), board))
    assert both(reader, redis, "runs") == [(1, 1, "ann", 1_005)]


def test_a_board_that_another_hand_brings_holds_up_no_other(follower: BoardFollower, reader: Any, redis: Redis) -> None:
    first, second = make("first"), make("second")
    add("ann")
    follower.build()
    follower.build()
    follower.tend()  # begins a state, without boards

    class Raced(BoardCopies):
        def swap_in(self, origin: str, board: Rules, **options: Any) -> None:
            if board.id == first.id:
                raise standings.Raced
            super().swap_in(origin, board, **options)

    assert BoardFollower(log, Raced(LEADERBOARD)).tend()
    assert BoardCopies(LEADERBOARD).state(log.head().origin).boards.keys() == {second.id}
    assert not BoardFollower(log, Raced(LEADERBOARD)).tend()


def test_a_board_that_nobody_reads_leaves_redis_and_comes_back_on_demand(
    follower: BoardFollower, reader: Any, redis: Redis
) -> None:
    board = make("ever")
    long_ago = timezone.now() - timedelta(seconds=2 * follower_module.KEPT_FOR_S)
    Board.objects.update(created_at=long_ago)
    add("ann", 5)
    keys = LEADERBOARD.period_keys(board.id, 1)
    BoardCopies(LEADERBOARD).mark_read([board.id])
    settle(follower)
    assert page(reader, "ever") == [(1, 1, "ann", 5)]
    assert redis.exists(*keys) == 2

    redis.hset(LEADERBOARD.boards_read_key, str(board.id), str(int(long_ago.timestamp())))
    settle(follower)
    assert redis.exists(*keys) == 0
    add("bob", 6)
    settle(follower)
    assert page(reader, "ever", Source.DATABASE) == [(1, 1, "bob", 6), (2, 2, "ann", 5)]

    BoardCopies(LEADERBOARD).mark_read([board.id])
    settle(follower)
    assert page(reader, "ever") == [(1, 1, "bob", 6), (2, 2, "ann", 5)]
