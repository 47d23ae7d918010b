"""The faults, each with what it does, how often, and how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tools.pooler import Neighbours, Pooler
from tools.stores import Redis, WatchedRedis

from .proxy import Mood
from .world import World


@dataclass(frozen=True)
class Fault:
    """`strike` causes the fault and returns when it is over, which is when the time to heal begins."""

    name: str
    strike: Callable[[World], None]
    cycles: int
    shows: bool = False  # until it is found, nothing in Redis gives it away
    cuts: bool = False  # the sockets of a process that ends, end
    needs: str = ""  # a program that not every machine has
    redis_class: type[Redis] = Redis  # in a world with this one


def kill_worker(world: World) -> None:
    """One of two: while the one of the cycle before is not replaced yet, there would be nobody left to answer."""
    until = time.monotonic() + 30
    while not world.all_workers_serve():
        assert time.monotonic() < until, "a killed worker was not replaced"
        time.sleep(0.01)
    os.kill(world.workers()[0], signal.SIGKILL)


def stop_holder(world: World) -> None:
    """Stop a worker (SIGSTOP) in a moment in which it holds the head of the log, for longer than others are patient."""
    until = time.monotonic() + 60
    with world.postgresql.open() as database:
        while time.monotonic() < until:
            for pid in world.workers():
                os.kill(pid, signal.SIGSTOP)
                try:
                    if holds_the_head(database):
                        time.sleep(3)
                        return
                finally:
                    os.kill(pid, signal.SIGCONT)
                time.sleep(0.002)
    raise AssertionError("no worker was met while it held the head")


def holds_the_head(database: psycopg.Connection[Any]) -> bool:
    """Whether the transaction that has the lock stays open without doing anything: a commit under way ends sooner."""
    for _ in range(3):
        idle = database.execute(
            "SELECT FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE relation = 'leaderboards'::regclass "
            "AND mode = 'RowShareLock' AND granted AND wait_event = 'ClientRead' AND backend_type = 'client backend'"
        ).fetchall()
        if not idle:
            return False
        time.sleep(0.02)
    return True


def kill_redis(world: World) -> None:
    world.redis.kill()
    time.sleep(0.3)
    world.redis.boot()


def kill_postgresql(world: World) -> None:
    world.postgresql.kill()
    time.sleep(0.2)
    world.postgresql.boot()


def kill_everything(world: World) -> None:
    for pid in [world.server.process.pid, *world.workers()]:
        os.kill(pid, signal.SIGKILL)
    world.redis.kill()
    world.postgresql.kill()
    world.server.process.wait()
    world.postgresql.boot()
    world.redis.boot()
    world.server.start()


def terminate(world: World) -> None:
    status = world.server.stop(signal.SIGTERM)
    assert status == 0, f"the server ended with status {status}"
    world.server.start()


def redis_in(mood: Mood) -> Callable[[World], None]:
    def strike(world: World) -> None:
        world.proxy.be(mood)
        time.sleep(2)
        world.proxy.be(Mood.PASSING)

    return strike


def freeze_redis(world: World) -> None:
    world.redis.freeze()
    time.sleep(2)
    world.redis.thaw()


def freeze_postgresql(world: World) -> None:
    world.postgresql.freeze()
    time.sleep(3)
    world.postgresql.thaw()


def fail_over(world: World) -> None:
    """What was committed is there, on another timeline: nobody can know by the numbers whether that is so."""
    before = world.postgresql.timeline
    world.postgresql.stop()
    world.postgresql.boot_as_standby()
    time.sleep(0.5)  # in which it answers reads, and refuses writes
    world.postgresql.promote()
    assert world.postgresql.timeline > before


def put_back(*, redis_empty: bool = False, members_differ: bool = False) -> Callable[[World], None]:
    """An older base copy, without recovery: the same timeline, the same epoch, and numbers that were used before."""

    def strike(world: World) -> None:
        base = world.redis.folder.parent / "base"
        world.load.pause()
        world.postgresql.stop()
        world.postgresql.save_to(base)
        world.postgresql.boot()
        with world.postgresql.open() as database:
            row = database.execute("SELECT seq FROM leaderboards").fetchone()
        assert row
        world.load.resume()
        if members_differ:
            world.load.add_newcomer()
        time.sleep(0.05)  # of points that will be lost: few, so that writers are past their numbers at once
        world.load.pause()
        with world.postgresql.open() as database:
            verdict = world.oracle.judge(database, world.load)
            assert (verdict.lost, verdict.doubled, verdict.misled) == (0, 0, 0), "misled before the fault"
            world.oracle.lose_history_after(row[0], database)
        if redis_empty:
            world.redis.kill()
        world.postgresql.stop()
        world.postgresql.restore_from(base)
        shutil.rmtree(base)
        world.load.resume()  # so that writers come before anybody has looked
        world.postgresql.boot()
        if redis_empty:
            world.redis.boot()

    return strike


def pool(world: World) -> None:
    """Put PgBouncer in front of PostgreSQL, hurt it and what is behind it, and take it away again."""
    url = world.server.env["DATABASE_URL"]
    with tempfile.TemporaryDirectory(prefix="pool-") as folder:
        pooler = Pooler(world.postgresql, Path(folder))
        pooler.start()
        try:
            serve_from(world, pooler.url())
            with Neighbours(pooler) as neighbours:
                time.sleep(0.5)
                world.redis.client.flushall()  # lets a tail rebuild, under its lock
                time.sleep(0.5)
                with world.postgresql.open() as database:
                    database.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    )
                time.sleep(0.5)
                pooler.kill()
                time.sleep(0.3)
                pooler.start()
                time.sleep(0.5)
        finally:
            serve_from(world, url)
            pooler.kill()
    assert neighbours.found == {("0", "0", "0")}, f"neighbours on the pool found the timeouts {neighbours.found}"
    with world.postgresql.open() as database:
        # The server that has just started takes such locks for moments. One that was stranded in the pool stays.
        until = time.monotonic() + 10
        while database.execute("SELECT FROM pg_locks WHERE locktype = 'advisory'").fetchall():
            assert time.monotonic() < until, "an advisory lock was left behind"
            time.sleep(0.05)


def serve_from(world: World, database_url: str) -> None:
    world.server.stop()
    world.server.env["DATABASE_URL"] = database_url
    world.server.start()


def old_rdb(world: World) -> None:
    world.redis.client.save()
    time.sleep(0.5)
    world.redis.kill()
    world.redis.boot()
    world.redis.forget_saved()


def command(*words: str) -> Callable[[World], None]:
    """A lie told with one Redis command."""

    def strike(world: World) -> None:
        client: Any = world.redis.client  # whose stubs do not type this one
        client.execute_command(*words)

    return strike


def remove_member(world: World) -> None:
    top: Any = world.redis.client.zrevrange("leaderboard", 0, 0)
    world.redis.client.zrem("leaderboard", top[0])


def change_score(world: World) -> None:
    # Of somebody at the end of the board, who is seldom enough written to for the next write to mend it by chance.
    last: Any = world.redis.client.zrange("leaderboard", 0, 0)
    world.redis.client.zincrby("leaderboard", 1_000_000, last[0])


def evict_and_recreate(world: World) -> None:
    """The key goes, and one write brings it back: to whoever only asks whether it exists it looks healthy."""
    world.redis.client.delete("leaderboard")
    world.redis.client.zadd("leaderboard", {"user1": 1})


def watched(world: World) -> WatchedRedis:
    """With the master of the cycle before as its replica."""
    assert isinstance(world.redis, WatchedRedis)
    world.redis.recover()
    return world.redis


def kill_master(world: World) -> None:
    watched(world).kill()


def freeze_master(world: World) -> None:
    watched(world).freeze()


FAULTS = [
    Fault("kill -9 of a worker", kill_worker, 20, cuts=True),
    Fault("a worker is stopped while it holds the log's head (SIGSTOP)", stop_holder, 5),
    Fault("kill -9 of Redis, which comes back empty", kill_redis, 20),
    Fault("kill -9 of PostgreSQL", kill_postgresql, 20),
    Fault("kill -9 of everything at once", kill_everything, 3, cuts=True),
    Fault("SIGTERM and a new start", terminate, 5, cuts=True),
    Fault("Redis refuses for 2 s", redis_in(Mood.REFUSING), 3),
    Fault("Redis takes connections and never answers, for 2 s", redis_in(Mood.SILENT), 3),
    Fault("Redis answers 200 ms late, for 2 s", redis_in(Mood.SLOW), 3),
    Fault("Redis is stopped for 2 s (SIGSTOP)", freeze_redis, 3),
    Fault("PostgreSQL is stopped for 3 s (SIGSTOP)", freeze_postgresql, 3),
    Fault("a standby takes the place of PostgreSQL", fail_over, 3),
    Fault("PostgreSQL is put back to an older base, and writers go on at once", put_back(), 5),
    Fault("PostgreSQL is put back, and the members are others", put_back(members_differ=True), 3),
    Fault("PostgreSQL is put back, and Redis comes back empty", put_back(redis_empty=True), 3),
    Fault(
        "PgBouncer with neighbours on its pool: sessions and PgBouncer killed", pool, 3, cuts=True, needs="pgbouncer"
    ),
    Fault("Redis comes back with an old RDB file", old_rdb, 10),
    Fault("FLUSHALL", command("FLUSHALL"), 10),
    Fault("only `leaderboard` deleted", command("DEL", "leaderboard"), 10),
    Fault("only `leaderboard:state` deleted", command("DEL", "leaderboard:state"), 10),
    Fault("a member removed by hand", remove_member, 10),
    Fault("a member added by hand", command("ZADD", "leaderboard", "5", "nobody"), 10),
    Fault("a score changed by hand", change_score, 10, shows=True),
    Fault("the key evicted and recreated by a write", evict_and_recreate, 10),
    Fault("a copy of another database", command("HSET", "leaderboard:state", "origin", "another"), 10),
    Fault("kill -9 of the Redis that the sentinels name", kill_master, 3, redis_class=WatchedRedis),
    Fault("the Redis that the sentinels name is stopped (SIGSTOP)", freeze_master, 3, redis_class=WatchedRedis),
]
