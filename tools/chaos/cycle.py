"""One cycle of a fault: load, fault, healing under load, and at rest the judgement."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

import psycopg
from redis.exceptions import RedisError

from .faults import Fault
from .load import Client
from .oracle import Oracle
from .world import World

BEFORE_S = 0.6  # of load, so that there is something to lose
HEALS_WITHIN_S = 30.0  # else it does not heal


@dataclass
class Line:
    """What one kind of fault did, over all of its cycles."""

    fault: str
    cycles: int = 0
    operations: int = 0
    lost: int = 0
    doubled: int = 0
    misled: int = 0
    slowest_heal_s: float = 0.0
    slowest_answer_s: float = 0.0
    longest_silence_s: float = 0.0
    problems: int = 0


def run(fault: Fault, world: World, line: Line) -> list[str]:
    """Add one cycle to `line`, and return what went wrong in it, in words."""
    load, oracle = world.load, world.oracle
    load.resume()
    time.sleep(BEFORE_S)
    fault.strike(world)
    took_s = heal(world)
    load.pause()
    with world.postgresql.open() as database:
        until = time.monotonic() + HEALS_WITHIN_S
        verdict = oracle.judge(database, load) if settled(oracle, database, until) else None
    problems = ["the stores do not agree at rest"] if verdict is None else list(verdict.problems)
    line.cycles += 1
    line.slowest_heal_s = max(line.slowest_heal_s, took_s)
    if verdict is not None:
        line.slowest_answer_s = max(line.slowest_answer_s, verdict.slowest_s)
        line.longest_silence_s = max(line.longest_silence_s, verdict.silence_s)
        line.operations += verdict.operations
        line.lost += verdict.lost
        line.doubled += verdict.doubled
        line.misled += verdict.misled
        for what in ("lost", "doubled") if fault.shows else ("lost", "doubled", "misled"):
            if number := getattr(verdict, what):
                problems.append(f"{number} {what}")
        if verdict.cuts and not fault.cuts:
            problems.append(f"{verdict.cuts} sockets were cut")
    line.problems += len(problems)
    return problems


def heal(world: World) -> float:
    """Seconds until the copy is exact at an event that was new when the fault ended, and reads come from it again."""
    started = time.monotonic()
    with world.postgresql.open() as database, closing(Client(world.server)) as client:
        row = database.execute("SELECT seq FROM leaderboards").fetchone()
        newest = row[0] if row else 0
        while time.monotonic() - started < HEALS_WITHIN_S:
            try:
                status, _ = client.ask("GET", "/api/v1/leaderboard?limit=1")
                from_redis = status == 200 and client.header("X-Leaderboard-Source") == "redis"
                if from_redis and world.oracle.copy_is_exact(database, at_least=newest):
                    return time.monotonic() - started
            except RedisError:
                pass
            time.sleep(0.01)
    raise AssertionError(
        f"not healed within {HEALS_WITHIN_S:.0f} s; the server's log: {world.server.log.read_text()[-4000:]}"
    )


def settled(oracle: Oracle, database: psycopg.Connection[tuple[int]], until: float) -> bool:
    """Wait until the copy is at the end of the log."""
    while time.monotonic() < until:
        row = database.execute("SELECT seq FROM leaderboards").fetchone()
        if row and oracle.copy_is_exact(database, at_least=row[0]):
            return True
        time.sleep(0.01)
    return False
