"""`manage.py verify_leaderboard --board`: standings and copy against the closed form, each at its own position."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any, cast

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from scores.board import LEADERBOARD
from scores.boards.follower import BoardFollower
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Board, BoardStanding

from .test_follower import add, lap, make, settle


def verify(board: str) -> tuple[int, str]:
    """The exit status, and what it tells."""
    stdout = StringIO()
    try:
        call_command("verify_leaderboard", board=board, stdout=stdout, stderr=StringIO())
    except CommandError as error:
        return error.returncode, f"{stdout.getvalue()}{error}"
    return 0, stdout.getvalue()


@pytest.fixture
def laps(follower: BoardFollower) -> Board:
    board = make("laps", fold="best", order="lower", stream=True)
    for user, score in [("ann", 90), ("bob", 80), ("ann", 80), ("cid", -5), ("dan", 7)]:
        lap(user, score)
    writer.record([Change(Kind.VOID, "ann", voids=3), Change(Kind.BLOCK, "dan")])
    settle(follower)
    return board


def test_a_board_that_is_right(laps: Board, follower: BoardFollower) -> None:
    assert verify("laps") == (
        0,
        "standings: compared 4 rows at event 7: 0 differ\n"
        "redis: compared 3 rows at event 7: 0 differ\n"
        "The board is what its events come to\n",
    )
    lap("ann", 3)
    lap("eve", 4)
    follower.fold()
    status, told = verify("laps")
    assert status == 0
    assert "standings: compared 4 rows at event 7: 0 differ" in told
    assert "redis: compared 3 rows at event 9: 0 differ" in told  # each at its own event


def test_a_board_that_nobody_reads_has_no_copy(laps: Board, redis: Redis) -> None:
    redis.flushall()

    status, told = verify("laps")

    assert status == 0
    assert "redis: does not have the board" in told


HANDS: dict[str, tuple[Callable[[Redis, tuple[str, str], bytes], object], str]] = {
    "a score": (lambda redis, keys, ann: redis.zincrby(keys[0], 1, ann), "'ann': -90 since event 1 by the events, -89"),
    "a tie": (
        lambda redis, keys, ann: (
            cast("Any", redis).hset(keys[1], "ann", b"\x1f" + b"\xff" * 6),
            redis.zrem(keys[0], ann),
            redis.zadd(keys[0], {b"\x1f" + b"\xff" * 6 + b"ann": -90}),
        ),
        "'ann': -90 since event 1 by the events, -90 since event 0",
    ),
    "a member": (
        lambda redis, keys, ann: (redis.zrem(keys[0], ann), redis.zadd(keys[0], {ann[:7] + b"eve": 5})),
        "'ann': -90 since event 1 by the events, not there",
    ),
    "a size": (lambda redis, keys, ann: redis.zrem(keys[0], ann), "redis: damaged"),
    "half a script": (lambda redis, keys, ann: redis.hset(LEADERBOARD.boards_key, "writing", "8"), "redis: damaged"),
}


@pytest.mark.parametrize("changed", HANDS)
def test_a_copy_that_somebody_changed(changed: str, laps: Board, redis: Redis) -> None:
    keys = LEADERBOARD.period_keys(laps.id, 1)
    change, line = HANDS[changed]
    change(redis, keys, bytes(redis.hget(keys[1], "ann") or b"") + b"ann")  # type: ignore[arg-type]

    status, told = verify("laps")

    assert status == 1
    assert line in told


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"key": 5}, "'bob': -80 since event 2 by the events, 5 since event 2 in the store"),
        ({"hidden": True}, "'bob': -80 since event 2 by the events, -80 since event 2, hidden in the store"),
        ({}, "'bob': -80 since event 2 by the events, not there in the store"),
    ],
)
def test_standings_that_somebody_changed(fields: dict[str, Any], line: str, laps: Board) -> None:
    rows = BoardStanding.objects.filter(user_id="bob")
    if fields:
        rows.update(**fields)
    else:
        rows._raw_delete(rows.db)

    status, told = verify("laps")

    assert status == 1
    assert line in told


def test_a_board_that_is_not_there(board: None) -> None:
    assert verify("none") == (2, "There is no board 'none'")


def test_a_board_without_events(follower: BoardFollower) -> None:
    make("ever")
    settle(follower)
    assert verify("ever")[0] == 0
    add("ann")
    assert verify("ever")[0] == 0
