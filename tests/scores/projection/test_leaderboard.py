"""The copy in Redis: how it moves, what it refuses to move from, and how it is filled anew."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import GeneratorType
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from scores import services
from scores.exceptions import Damaged, Gap, RedisAway
from scores.log.head import Head, log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.writer import writer
from scores.projection.leaderboard import Entry, PageQuestion, Question, StandingQuestion, leaderboard
from scores.stores.batcher import Batcher
from scores.stores.redis import breaker, client
from tests.scores.conftest import by_another_thread, copy_is_true, hooks_lost, stopped
from tests.settings import MORE_PATIENT

Totals = dict[str, int | None]


@pytest.fixture
def origin(redis: Redis) -> str:
    """The origin of a log at event 3, whose copy holds ann with 10, bob with 20 and cid with 20."""
    log.head()
    leaderboard.rebuild()
    write(ann=10, bob=20, cid=20)
    return log.head().origin


def write(**points: int) -> None:
    """Record increments, and move the copy as the hook does."""
    writer.record([Change(Kind.INCREMENT, user_id, of_user) for user_id, of_user in points.items()])


def members(redis: Redis) -> dict[str, int]:
    rows: Any = redis.zrange("leaderboard", 0, -1, withscores=True)
    return {member.decode(): int(score) for member, score in rows}


def seq() -> int:
    state = leaderboard.state()
    assert state is not None
    return state.seq


# Moving


def test_the_copy_is_the_set_of_the_contract(origin: str, redis: Redis) -> None:
    assert redis.zrevrange("leaderboard", 0, -1, withscores=True) == [(b"cid", 20.0), (b"bob", 20.0), (b"ann", 10.0)]
    state = {b"origin": origin.encode(), b"seq": b"3", b"members": b"3", b"mark": b"3:%d" % log.head().mark}
    assert redis.hgetall("leaderboard:state") == state


def test_events_that_follow_move_the_copy(origin: str, redis: Redis) -> None:
    assert leaderboard.apply(origin=origin, first=4, last=6, totals={"ann": 30, "dan": 1, "bob": None})

    assert members(redis) == {"ann": 30, "cid": 20, "dan": 1}
    assert leaderboard.state() == (origin, 6, 3, 3, None, 6)


@pytest.mark.parametrize(("first", "last"), [(1, 3), (3, 3), (2, 2), (1, 1)])
def test_what_the_copy_has_seen_changes_nothing(first: int, last: int, origin: str, redis: Redis) -> None:
    assert not leaderboard.apply(origin=origin, first=first, last=last, totals={"ann": 99, "bob": None, "zoe": 5})

    assert members(redis) == {"ann": 10, "bob": 20, "cid": 20}
    assert seq() == 3


def test_events_that_reach_back_do_not_move_it(origin: str, redis: Redis) -> None:
    """Nobody can know whether the event that the copy is at is one of these: its mark is not among those that came."""
    with pytest.raises(Gap):
        leaderboard.apply(origin=origin, first=2, last=4, totals={"bob": 20, "cid": 21})

    assert members(redis) == {"ann": 10, "bob": 20, "cid": 20}
    assert seq() == 3


def test_a_gap_is_not_jumped(origin: str, redis: Redis) -> None:
    with pytest.raises(Gap):
        leaderboard.apply(origin=origin, first=5, last=5, totals={"ann": 30})

    assert members(redis)["ann"] == 10
    assert seq() == 3


def test_another_log_is_foreign(origin: str, redis: Redis) -> None:
    with pytest.raises(Damaged, match="foreign"):
        leaderboard.apply(origin="another", first=4, last=4, totals={"ann": 30})

    assert members(redis)["ann"] == 10


FAULTS: dict[str, tuple[Callable[[Redis], Any], str]] = {
    "nothing left": (lambda redis: redis.flushall(), "missing"),
    "set deleted": (lambda redis: redis.delete("leaderboard"), "damaged"),
    "state deleted": (lambda redis: redis.delete("leaderboard:state"), "missing"),
    "state without seq": (lambda redis: redis.hdel("leaderboard:state", "seq"), "missing"),
    "member removed": (lambda redis: redis.zrem("leaderboard", "ann"), "damaged"),
    "member added": (lambda redis: redis.zadd("leaderboard", {"eve": 1}), "damaged"),
    "set recreated": (lambda redis: (redis.delete("leaderboard"), redis.zadd("leaderboard", {"eve": 1})), "damaged"),
    "set of another type": (lambda redis: redis.set("leaderboard", "x"), "damaged"),
    "state of another type": (lambda redis: redis.set("leaderboard:state", "x"), "missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_copy_that_somebody_touched_is_not_believed(fault: str, origin: str, redis: Redis) -> None:
    cause, reason = FAULTS[fault]
    cause(redis)

    with pytest.raises(Damaged, match=reason):
        leaderboard.apply(origin=origin, first=4, last=4, totals={"ann": 30})
    with pytest.raises(Damaged, match=reason):
        leaderboard.read(origin, [PageQuestion(10, 0)])
    assert not breaker.is_open


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rebuild_mends_it(fault: str, origin: str, redis: Redis) -> None:
    FAULTS[fault][0](redis)

    leaderboard.rebuild()

    assert copy_is_true(redis)


def test_thousands_fit_in_one_step(origin: str, redis: Redis) -> None:
    """More than Lua can unpack at once."""
    many: Totals = {f"user{number}": number for number in range(2_500)}

    assert leaderboard.apply(origin=origin, first=4, last=2_503, totals=many)
    assert redis.zcard("leaderboard") == 2_503
    assert leaderboard.apply(origin=origin, first=2_504, last=5_003, totals=dict.fromkeys(many))

    assert members(redis) == {"ann": 10, "bob": 20, "cid": 20}
    assert leaderboard.state() == (origin, 5_003, 3, 3, None, 5_003)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_deliveries_may_come_late_twice_and_out_of_order(redis: Redis, data: st.DataObject) -> None:
    """Whatever the order, the copy is at each moment right after some event, and at the end after the last."""
    redis.flushdb()
    redis.hset("leaderboard:state", mapping={"origin": "o", "seq": 0, "members": 0})
    users, places = st.sampled_from(["ann", "bob", "cid"]), st.none() | st.integers(0, 3)
    commits = data.draw(st.lists(st.dictionaries(users, places, min_size=1), min_size=1, max_size=6))
    deliveries = data.draw(st.lists(st.sampled_from(range(len(commits))), max_size=20))
    true: list[dict[str, int]] = [{}]
    for commit in commits:
        true.append({user: total for user, total in (true[-1] | commit).items() if total is not None})

    for number in [*deliveries, *range(len(commits))]:
        try:
            leaderboard.apply(origin="o", first=number + 1, last=number + 1, totals=commits[number])
        except Gap:
            pass
        assert members(redis) == true[seq()]

    assert seq() == len(commits)


# Reading


def test_a_read_answers_all_questions_as_of_one_event(origin: str) -> None:
    questions: list[Question] = [
        PageQuestion(2, 0),
        PageQuestion(2, 1),
        StandingQuestion("ann"),
        StandingQuestion("nobody"),
    ]

    snapshot = leaderboard.read(origin, questions)

    assert snapshot[:3] == (origin, 3, 3)
    assert snapshot.answers == [
        [Entry(1, "cid", 20), Entry(1, "bob", 20)],
        [Entry(1, "bob", 20), Entry(3, "ann", 10)],
        Entry(3, "ann", 10),
        None,
    ]


def test_a_read_for_another_log_is_refused(origin: str) -> None:
    with pytest.raises(Damaged, match="foreign"):
        leaderboard.read("another", [PageQuestion(1, 0)])


def test_totals_are_given_in_the_order_asked(origin: str) -> None:
    assert leaderboard.totals_of(["bob", "nobody", "ann"]).scores == [20, None, 10]


def test_every_member_is_met(redis: Redis) -> None:
    redis.zadd("leaderboard", {f"user{number}": number for number in range(1_000)})

    met = [member for chunk in leaderboard.members(chunk=100) for member in chunk]

    assert set(met) == {f"user{number}" for number in range(1_000)}


def test_a_redis_that_is_silent_is_away_and_not_asked_again_at_once(
    origin: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_probe_every_s", 3600.0)
    with stopped(redis), pytest.raises(RedisAway):
        leaderboard.state()
    assert breaker.is_open

    with pytest.raises(RedisAway):
        leaderboard.totals_of(["ann"])

    assert seq() == 3  # the state is asked for whatever is known: so the tail finds out
    assert not breaker.is_open


@pytest.mark.parametrize(("alias", "timeout_s"), [("default", 0.1 * MORE_PATIENT), ("bulk", 5.0 * MORE_PATIENT)])
def test_requests_wait_for_redis_less_than_rebuilds_do(alias: str, timeout_s: float, origin: str) -> None:
    """Whichever of the two was the first to connect."""
    kwargs = client(alias).connection_pool.connection_kwargs

    assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (timeout_s, timeout_s)


def test_a_silent_redis_fails_no_write(origin: str, redis: Redis) -> None:
    with stopped(redis):
        assert services.correct(user_id="ann", total=50, actor="admin", reason="a test") == Recorded(4, 50)


# Catching up


def test_catching_up_folds_in_what_was_missed(origin: str, redis: Redis) -> None:
    with hooks_lost():
        write(ann=5, dan=1)
        services.block(user_id="bob", actor="admin", reason="speed hack")
        write(ann=5)

    assert leaderboard.catch_up(log.head())

    assert members(redis) == {"ann": 20, "cid": 20, "dan": 1}
    assert copy_is_true(redis)


def test_catching_up_goes_in_steps(origin: str, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scores.projection.leaderboard.CATCH_UP_EVENTS", 3)
    with hooks_lost():
        for _ in range(4):
            write(ann=1, bob=1)

    assert leaderboard.catch_up(log.head())

    assert copy_is_true(redis)


def test_catching_up_with_nothing_is_not_a_move(origin: str) -> None:
    assert not leaderboard.catch_up(log.head())


@pytest.mark.parametrize("fault", FAULTS)
def test_there_is_no_catching_up_from_a_damaged_copy(fault: str, origin: str, redis: Redis) -> None:
    with hooks_lost():
        write(ann=1)
    cause, reason = FAULTS[fault]
    cause(redis)

    with pytest.raises(Damaged, match=reason):
        leaderboard.catch_up(log.head())


def test_a_copy_of_a_log_without_those_events_does_not_catch_up_for_ever(origin: str) -> None:
    with pytest.raises(Damaged, match="no longer has"):
        leaderboard.catch_up(Head(origin, 99, 3, 1))


def test_the_hook_of_a_commit_closes_the_gap_that_another_left(origin: str, redis: Redis) -> None:
    with hooks_lost():
        write(ann=5)

    write(bob=5)

    assert copy_is_true(redis)


# Rebuilding


def test_a_rebuild_shows_how_far_it_is(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scores.projection.leaderboard.REBUILD_MEMBERS", 2)
    steps: list[tuple[int, int]] = []

    head = leaderboard.rebuild(progress=lambda done, total: steps.append((done, total)))

    assert steps == [(2, 3), (3, 3)]
    assert head == log.head()


def test_a_rebuild_of_nothing_is_an_empty_copy(redis: Redis) -> None:
    redis.zadd("leaderboard", {"ghost": 1})

    leaderboard.rebuild()

    assert copy_is_true(redis)
    assert not redis.exists("leaderboard")


def test_a_rebuild_leaves_the_blocked_out_and_the_zeros_in(origin: str, redis: Redis) -> None:
    services.block(user_id="bob", actor="admin", reason="speed hack")
    services.correct(user_id="cid", total=0, actor="admin", reason="a bug")

    leaderboard.rebuild(force=True)

    assert members(redis) == {"ann": 10, "cid": 0}


def test_a_rebuilt_copy_does_not_expire(origin: str, redis: Redis) -> None:
    leaderboard.rebuild(force=True)

    assert (redis.ttl("leaderboard"), redis.ttl("leaderboard:state")) == (-1, -1)
    assert not list(redis.scan_iter("leaderboard:rebuild:*"))


def test_a_rebuild_that_fails_leaves_the_copy_and_nothing_else(origin: str, redis: Redis) -> None:
    """If its process dies, what it has filled expires."""
    seconds: list[Any] = []

    def die(done: int, total: int) -> None:
        seconds.extend(redis.ttl(key) for key in redis.scan_iter("leaderboard:rebuild:*"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leaderboard.rebuild(force=True, progress=die)

    assert len(seconds) == 1
    assert seconds[0] > 0
    assert not list(redis.scan_iter("leaderboard:rebuild:*"))
    assert copy_is_true(redis)


def test_what_a_rebuild_fills_expires_also_if_somebody_emptied_redis_amid(
    origin: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scores.projection.leaderboard.REBUILD_MEMBERS", 1)
    write(ann=5, bob=5, cid=5)
    seconds: list[Any] = []

    def empty_once(done: int, total: int) -> None:
        seconds.extend(redis.ttl(key) for key in redis.scan_iter("leaderboard:rebuild:*"))
        if done == 1:
            redis.flushall()

    with pytest.raises(Damaged):
        leaderboard.rebuild(force=True, progress=empty_once)

    assert len(seconds) > 2
    assert min(seconds) > 0
    assert not list(redis.scan_iter("leaderboard:rebuild:*"))


def test_a_rebuild_that_redis_refuses_leaves_no_cursor_to_the_garbage_collector(
    origin: str, redis: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would close the cursor amid some later statement of the same thread, which then waits for itself for ever."""
    monkeypatch.setattr("scores.projection.leaderboard.REBUILD_MEMBERS", 1)
    write(ann=5, bob=5, cid=5)
    gc.collect()
    gc.disable()
    try:
        redis.config_set("maxmemory", 1)
        for _ in range(3):
            breaker.succeeded()
            with pytest.raises(RedisAway):
                leaderboard.rebuild(force=True)
        assert not open_cursors()
        assert "maxmemory" in caplog.text
        assert "ann" not in caplog.text
    finally:
        redis.config_set("maxmemory", 0)
        gc.enable()


def open_cursors() -> list[object]:
    """Generators of Django that read rows from a cursor and are not at their end."""
    generators = [found for found in gc.get_objects() if isinstance(found, GeneratorType)]
    return [found for found in generators if found.gi_code.co_name == "cursor_iter" and found.gi_frame is not None]


def test_a_rebuild_does_not_replace_a_whole_copy_that_is_further(origin: str, redis: Redis) -> None:
    """Its snapshot is from before the write that came in between."""
    leaderboard.rebuild(progress=lambda done, total: by_another_thread(lambda: write(ann=5)))

    assert copy_is_true(redis)
    assert members(redis)["ann"] == 15
    assert not list(redis.scan_iter("leaderboard:rebuild:*"))


def test_a_forced_rebuild_replaces_it_and_catches_up(origin: str, redis: Redis) -> None:
    redis.zadd("leaderboard", {"ann": 999})  # of the right size, so only somebody who compares would know

    leaderboard.rebuild(force=True, progress=lambda done, total: by_another_thread(lambda: write(ann=5)))

    assert copy_is_true(redis)


@pytest.mark.parametrize("force", [False, True], ids=["if need be", "forced"])
def test_rebuilds_and_writes_go_on_at_the_same_time(force: bool, origin: str, redis: Redis) -> None:
    batcher: Batcher[Change, Recorded] = Batcher(
        "writer of a test", writer.record, max_batch=8, max_queued=1_000, timeout_s=10
    )
    enough = threading.Event()

    def keep_writing() -> int:
        number = 0
        while not enough.is_set():
            batcher.submit_and_wait(Change(Kind.INCREMENT, f"user{number % 7}", 1))
            number += 1
        return number

    def keep_rebuilding() -> None:
        try:
            for _ in range(5):
                leaderboard.rebuild(force=force)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        written = pool.submit(keep_writing)
        rebuilders = [pool.submit(keep_rebuilding) for _ in range(2)]
        try:
            for rebuilder in rebuilders:
                rebuilder.result(30)
        finally:
            enough.set()
    batcher.close()

    assert log.head().seq == 3 + written.result()
    assert copy_is_true(redis)
