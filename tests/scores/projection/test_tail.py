"""The tail: whatever happens to the copy, it is mended within moments, and everybody hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from redis import Redis

from scores import signals
from scores.exceptions import Damaged
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Leaderboard, ScoreEvent, UserScore
from scores.projection.leaderboard import leaderboard
from scores.projection.tail import Tail
from scores.stores.redis import breaker
from tests.polling import until
from tests.scores.conftest import copy_is_true, hooks_lost, rebuilds

Heard = list[tuple[str, int]]


def write(**points: int) -> None:
    writer.record([Change(Kind.INCREMENT, user_id, of_user) for user_id, of_user in points.items()])


@pytest.fixture
def tail(redis: Redis) -> Iterator[Tail]:
    """A tail that has seen three users on the board, and that looks when it is told to."""
    follower = Tail(leaderboard)
    follower.check()
    write(ann=10, bob=20, cid=20)
    follower.check()
    assert copy_is_true(redis)
    yield follower
    follower.stop()


@pytest.fixture
def heard(tail: Tail) -> Iterator[Heard]:
    """What `leaderboard_changed` says."""
    events: Heard = []

    def hear(sender: object, *, origin: str, seq: int, **facts: Any) -> None:
        events.append((origin, seq))

    signals.leaderboard_changed.connect(hear)
    yield events
    signals.leaderboard_changed.disconnect(hear)


def head() -> tuple[str, int]:
    return log.head()[:2]


# What it finds


def lose_a_write(redis: Redis) -> None:
    with hooks_lost():
        write(ann=5)


def recreate_the_set_by_a_write(redis: Redis) -> None:
    redis.delete("leaderboard")
    write(ann=5)


def load_an_old_copy(redis: Redis) -> None:
    """What a restart with an RDB file from before the last writes does."""
    keys = ("leaderboard", "leaderboard:state")
    old: dict[str, Any] = {key: redis.dump(key) for key in keys}
    write(ann=5, dan=1)
    redis.flushall()
    for key in keys:
        redis.restore(key, 0, old[key], replace=True)


def lose_a_block(redis: Redis) -> None:
    with hooks_lost():
        writer.record([Change(Kind.BLOCK, "bob")])


MISHAPS: dict[str, Callable[[Redis], object]] = {
    "everything lost": lambda redis: redis.flushall(),
    "set lost": lambda redis: redis.delete("leaderboard"),
    "state lost": lambda redis: redis.delete("leaderboard:state"),
    "member removed": lambda redis: redis.zrem("leaderboard", "ann"),
    "member added": lambda redis: redis.zadd("leaderboard", {"eve": 1}),
    "all members removed": lambda redis: redis.zremrangebyrank("leaderboard", 0, -1),
    "set recreated by a write": recreate_the_set_by_a_write,
    "set of another type": lambda redis: redis.set("leaderboard", "x"),
    "state of another type": lambda redis: redis.set("leaderboard:state", "x"),
    "state of another log": lambda redis: redis.hset("leaderboard:state", "origin", "another"),
    "state that miscounts": lambda redis: redis.hset("leaderboard:state", "members", "7"),
    "an old copy": load_an_old_copy,
    "a write untold": lose_a_write,
    "a block untold": lose_a_block,
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_two_looks_mend_anything(mishap: str, tail: Tail, heard: Heard, redis: Redis) -> None:
    """Two, since what is behind by less than a look may only be on its way."""
    MISHAPS[mishap](redis)
    assert not copy_is_true(redis)

    tail.check()
    tail.check()

    assert copy_is_true(redis)
    assert heard[-1] == head()


@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_running_tail_mends_it_by_itself(mishap: str, tail: Tail, heard: Heard, redis: Redis) -> None:
    tail.start()

    MISHAPS[mishap](redis)

    until(lambda: copy_is_true(redis) and heard and heard[-1] == head())


def test_a_size_that_the_log_denies_is_damage_though_the_copy_agrees_with_itself(
    tail: Tail, heard: Heard, redis: Redis
) -> None:
    redis.zrem("leaderboard", "ann")
    redis.hset("leaderboard:state", "members", "2")

    tail.check()

    assert copy_is_true(redis)
    assert heard == [head()]


def test_a_copy_that_is_right_is_left_alone_and_not_talked_about(tail: Tail, heard: Heard, redis: Redis) -> None:
    for _ in range(3):
        tail.check()

    assert heard == []


def test_an_empty_redis_gets_its_first_copy(board: None, redis: Redis) -> None:
    Tail(leaderboard).check()

    assert copy_is_true(redis)


def test_two_tails_that_find_the_same_do_no_harm(tail: Tail, redis: Redis) -> None:
    other = Tail(leaderboard)
    other.start()
    tail.start()
    try:
        for mishap in ("everything lost", "an old copy", "member added", "a write untold"):
            MISHAPS[mishap](redis)
            until(lambda: copy_is_true(redis))
    finally:
        other.stop()


# A database that was put back


def test_a_log_that_lost_its_end_becomes_another_log(tail: Tail, heard: Heard, redis: Redis) -> None:
    """Else the next event would get a number that the sockets have seen with another meaning."""
    before = log.head()
    write(ann=5)
    ScoreEvent.objects.filter(seq__gt=before.seq).delete()
    UserScore.objects.filter(user_id="ann").update(score=10)
    Leaderboard.objects.update(seq=before.seq)

    tail.check()

    assert log.head().origin != before.origin
    assert tail.origin() == log.head().origin
    assert copy_is_true(redis)
    assert heard[-1] == head()


def test_a_new_log_replaces_the_copy_of_the_old_one(tail: Tail, heard: Heard, redis: Redis) -> None:
    for model in (ScoreEvent, UserScore, Leaderboard):
        model.objects.all().delete()

    tail.check()

    assert copy_is_true(redis)
    assert not redis.exists("leaderboard")
    assert heard == [head()]


# The thread


def test_its_origin_is_fresh_whether_it_runs_or_not(tail: Tail) -> None:
    assert tail.origin() == log.head().origin
    tail.start()
    Leaderboard.objects.all().delete()

    until(lambda: tail.origin() == log.head().origin)

    tail.stop()
    Leaderboard.objects.all().delete()
    assert tail.origin() == log.head().origin


def test_it_knows_how_long_the_database_has_been_away(tail: Tail) -> None:
    assert tail.age_s == 0  # nobody keeps asking: whoever wants to know asks the database

    tail.start()

    until(lambda: 0 < tail.age_s < 60)


def test_it_can_be_started_and_stopped_again_and_again(tail: Tail, redis: Redis) -> None:
    for _ in range(3):
        tail.start()
        tail.start()
        redis.flushall()
        tail.wake()
        until(lambda: copy_is_true(redis))
        tail.stop()
        tail.stop()


def test_a_redis_that_was_silent_is_caught_up_with(tail: Tail, heard: Heard, redis: Redis) -> None:
    tail.start()
    redis.client_pause(800)
    write(ann=5)

    redis.ping()  # waits for the end of the pause

    until(lambda: copy_is_true(redis) and heard and heard[-1] == head())
    assert not breaker.is_open


def test_what_cannot_be_rebuilt_is_not_tried_again_at_once(tail: Tail, redis: Redis) -> None:
    class Emptied(Tail):
        def _note_answer(self, *progress: int) -> None:
            redis.flushall()  # amid the rebuild

    redis.flushall()
    unlucky = Emptied(leaderboard)
    unlucky._pause_s = 3600.0
    with pytest.raises(Damaged):
        unlucky.check()
    before = rebuilds()

    unlucky.check()

    assert rebuilds() == before


def test_a_connection_that_was_killed_is_replaced(tail: Tail, redis: Redis) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (since,) = cursor.fetchone()
    tail.start()
    until(lambda: killed_of_those_opened(since))

    redis.flushall()

    until(lambda: copy_is_true(redis))


def killed_of_those_opened(since: datetime) -> bool:
    """End the connections made `since`, but not while they work; whether there was one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_start > %s AND state = 'idle'",
            [since],
        )
        return bool(cursor.fetchall())
