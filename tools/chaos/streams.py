"""Streams while their parts are killed: a queue that is filled all the time, and at rest the fate of each entry and event."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, LiteralString

import psycopg

from leaderboard_site.local import DataDirectory
from tools.manage import make_tables
from tools.servers import ROOT
from tools.stores import PostgreSQL, RabbitMQ, Redis

from .orders import BLOCKED, QUEST, QUEST_POINTS, Found, Key, Orders, judge
from .producer import MESSAGES_PER_S, QUEUE, Producer, ready, take_dead_letters
from .published import EXCHANGE, Event, Published, bind, take_events
from .table import Form
from .world import environment, stores

WORKERS = 2
BATCH = 50  # entries: a message may be two batches, and a batch many messages
BEFORE_S = 1.0  # at most, of load
STANDS_STILL_S = 1.0
HEALS_WITHIN_S = 60.0
ACTION_SQL = """
    INSERT INTO actions (name, points, cooldown_s, enabled, services_only) VALUES (%s, %s, 1, true, false)
"""
BLOCK_SQL = "INSERT INTO blocks (user_id, seq) VALUES (%s, 0)"
EVENTS_SQL = """
    SELECT seq, user_id, idempotency_key, points FROM score_events WHERE seq > %s
"""
TOTALS_SQL = "SELECT user_id, score FROM user_scores WHERE user_id = ANY(%s)"
RECORDED_SQL = """
    SELECT FROM score_events WHERE (user_id, idempotency_key) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
PUBLISHED_SQL = f"{RECORDED_SQL} AND seq <= (SELECT seq FROM followers WHERE name = 'publish')"


class Command:
    """A command of `manage.py` that runs until it is told to end."""

    def __init__(self, name: str, env: dict[str, str], log: Path, says: str) -> None:
        self._name = name
        self._env = env
        self.log = log
        self._says = says  # when it has begun

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", self._name], cwd=ROOT, env=os.environ | self._env, stdout=log, stderr=log
            )

    def works(self) -> bool:
        assert self.process.poll() is None, f"it has ended:\n{self.log.read_text()[-4000:]}"
        return self._says.format(self.process.pid) in self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, after which it ends cleanly."""
        self.process.terminate()
        status = self.process.wait(HEALS_WITHIN_S)
        assert status == 0, f"it ended with status {status}:\n{self.log.read_text()[-4000:]}"

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@dataclass
class World:
    postgresql: PostgreSQL
    broker: RabbitMQ
    workers: Sequence[Command]
    follower: Command
    producer: Producer
    orders: Orders
    chance: Random
    found: Found = field(default_factory=Found)
    log: dict[int, Event] = field(default_factory=dict)  # by seq
    published: Published = field(default_factory=Published)


@dataclass(frozen=True)
class Fault:
    """`strike` causes the fault and returns when it is over."""

    name: str
    strike: Callable[[World], None]
    cycles: int


@dataclass
class Line:
    """What one kind of fault did, over all of its cycles."""

    fault: str
    cycles: int = 0
    messages: int = 0
    unconfirmed: int = 0
    entries: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    refused: int = 0
    letters_again: int = 0
    published: int = 0
    published_again: int = 0
    published_wrongly: int = 0
    slowest_heal_s: float = 0.0

    @property
    def problems(self) -> int:
        return self.lost + self.doubled + self.wrong + self.published_wrongly

    def cells(self) -> tuple[str, ...]:
        numbers = (self.cycles, self.messages, self.unconfirmed, self.entries, self.lost, self.doubled, self.wrong)
        more = (self.refused, self.letters_again, self.published, self.published_again, self.published_wrongly)
        return (self.fault, *(f"{number:,}" for number in (*numbers, *more)), f"{self.slowest_heal_s:.2f} s")


FORM = Form(
    f"{MESSAGES_PER_S:.0f} messages per second, two processes that ingest, one that publishes",
    "<!-- table of streams: make chaos ARGS=--write -->",
    (
        "Fault",
        "Cycles",
        "Messages",
        "Sent anew",
        "Entries",
        "Lost",
        "Doubled",
        "Wrong",
        "Refused",
        "Dead letters twice",
        "Published",
        "Published again",
        "Published wrongly",
        "Longest time to heal",
    ),
)


def kill_worker(world: World) -> None:
    worker = world.chance.choice(world.workers)
    worker.kill()
    worker.start()


def kill_follower(world: World) -> None:
    world.follower.kill()
    world.follower.start()


def kill_broker(world: World) -> None:
    world.broker.kill()
    world.broker.boot()


def kill_postgresql(world: World) -> None:
    world.postgresql.kill()
    time.sleep(0.2)
    world.postgresql.boot()


def freeze(world: World) -> None:
    parts: list[Command | RabbitMQ | PostgreSQL] = [*world.workers, world.follower, world.broker, world.postgresql]
    stopped = world.chance.choice(parts)
    stopped.freeze()
    time.sleep(STANDS_STILL_S)
    stopped.thaw()


FAULTS = [
    Fault("kill -9 of a process that ingests", kill_worker, 5),
    Fault("kill -9 of the process that publishes", kill_follower, 5),
    Fault("kill -9 of RabbitMQ", kill_broker, 5),
    Fault("kill -9 of PostgreSQL", kill_postgresql, 5),
    Fault("one of them is stopped for a second (SIGSTOP)", freeze, 5),
]


def run(fault: Fault, world: World, line: Line, *, cycles: int) -> list[str]:
    """Strike so often under load, wait until the queue is empty, and return what went wrong, in words."""
    messages, unconfirmed, entries = len(world.producer.confirmed), world.producer.unconfirmed, len(world.orders.asked)
    published, again = world.published.messages, world.published.again
    before, mistaken = judge(world.orders, world.found), mistakes(world)
    world.producer.resume()
    for _ in range(cycles):
        wait_for_start(world)
        time.sleep(world.chance.uniform(0, BEFORE_S))
        fault.strike(world)
        line.slowest_heal_s = max(line.slowest_heal_s, heal(world))
    world.producer.pause()
    settle(world)
    verdict = judge(world.orders, world.found)
    line.cycles += cycles
    line.messages += len(world.producer.confirmed) - messages
    line.unconfirmed += world.producer.unconfirmed - unconfirmed
    line.entries += len(world.orders.asked) - entries
    line.refused += verdict.refused - before.refused
    line.letters_again += verdict.letters_again - before.letters_again
    line.published += world.published.messages - published
    line.published_again += world.published.again - again
    return compare(mistaken, mistakes(world), line)


def mistakes(world: World) -> dict[str, set[object]]:
    """By the column of the table that counts them."""
    verdict = judge(world.orders, world.found)
    return {
        "lost": set(verdict.lost),
        "doubled": set(verdict.doubled),
        "wrong": set(verdict.wrong),
        "published_wrongly": set(world.published.wrong(world.log)),
    }


def compare(before: dict[str, set[object]], now: dict[str, set[object]], line: Line) -> list[str]:
    problems = []
    for what, found in now.items():
        if new := found - before[what]:
            setattr(line, what, getattr(line, what) + len(new))
            problems.append(f"{len(new)} {what}: {sorted(new, key=str)[:5]}")
    return problems


def heal(world: World) -> float:
    """Seconds until something is recorded and published that was first sent after the fault had ended."""
    started, first, before = time.monotonic(), len(world.producer.confirmed), set(world.orders.asked)
    with world.postgresql.open() as database:

        def is_published() -> bool:
            keys = [key for message in world.producer.confirmed[first:] for key in message if key not in before]
            return bool(keys) and count(database, PUBLISHED_SQL, keys) > 0

        wait_for(is_published, "nothing was recorded and published after the fault")
    return time.monotonic() - started


def are_recorded(postgresql: PostgreSQL, keys: Sequence[Key]) -> bool:
    with postgresql.open() as database:
        return count(database, RECORDED_SQL, keys) == len(keys)


def count(database: psycopg.Connection[Any], sql: LiteralString, keys: Sequence[Key]) -> int:
    """How many events of `keys` the statement finds."""
    return len(database.execute(sql, [list(part) for part in zip(*keys, strict=True)]).fetchall())


def settle(world: World) -> None:
    """Return when the queue is empty and the fate of everything is known, or is not for so long that something is lost."""
    until = time.monotonic() + HEALS_WITHIN_S
    while time.monotonic() < until:
        if ready(world.broker) == 0:
            look(world)
            if not judge(world.orders, world.found).lost and not world.published.wrong(world.log):
                return
        time.sleep(0.1)


def look(world: World) -> None:
    world.found.letters.update(take_dead_letters(world.broker))
    users = [user_id for user_id, _ in world.orders.asked]
    with world.postgresql.open() as database:
        for seq, *event in database.execute(EVENTS_SQL, [max(world.log, default=0)]):
            world.log[seq] = Event(*event)
            world.found.events[world.log[seq].user_id, world.log[seq].key].append(world.log[seq].points)
        world.found.totals = dict(database.execute(TOTALS_SQL, [users]).fetchall())
    take_events(world.broker, world.published)


def end(world: World, line: Line) -> list[str]:
    """Let the processes end, and return what is wrong then: a message that nobody acknowledged is there again."""
    before = mistakes(world)
    wait_for_start(world)
    for process in (*world.workers, world.follower):
        process.stop()
    left = ready(world.broker)
    look(world)
    problems = compare(before, mistakes(world), line)
    line.wrong += left
    return [*problems, f"{left} messages were not acknowledged"] if left else problems


def wait_for_start(world: World) -> None:
    wait_for(lambda: all(process.works() for process in (*world.workers, world.follower)), "a process did not start")


def wait_for(condition: Callable[[], bool], failure: str) -> None:
    until = time.monotonic() + HEALS_WITHIN_S
    while not condition():
        assert time.monotonic() < until, failure
        time.sleep(0.01)


@contextmanager
def own_broker(folder: Path) -> Iterator[RabbitMQ]:
    """Raises `StoreError` where there is no RabbitMQ."""
    broker = RabbitMQ(DataDirectory(folder / "broker"))
    broker.program()
    try:
        broker.boot()
        yield broker
    finally:
        broker.stop()


@contextmanager
def world(folder: Path, broker: RabbitMQ, seed: int) -> Iterator[World]:
    """All of it running under load on a `broker` without such a queue, and all of it ended again."""
    with stores(folder) as (postgresql, redis):
        make_tables(environment(postgresql, redis.port))
        with streaming(folder, postgresql, redis, broker, seed) as hurt:
            yield hurt


@contextmanager
def streaming(folder: Path, postgresql: PostgreSQL, redis: Redis, broker: RabbitMQ, seed: int) -> Iterator[World]:
    """The same on stores that have their tables."""
    with postgresql.open() as database:
        database.execute(ACTION_SQL, [QUEST, QUEST_POINTS])
        database.execute(BLOCK_SQL, [BLOCKED])
    orders = Orders()
    producer = Producer(broker, orders, seed)
    env = environment(
        postgresql,
        redis.port,
        BROKER_URL=broker.url,
        INGEST_QUEUE=QUEUE,
        INGEST_BATCH=str(BATCH),
        PUBLISH="on",
        PUBLISH_TO=EXCHANGE,
    )
    says = f"Process {{}} drains {QUEUE}"
    workers = [Command("ingest", env, folder / f"ingest{number}.log", says) for number in range(WORKERS)]
    follower = Command("follow", env, folder / "follow.log", "Process {} follows the log")
    processes = [*workers, follower]
    bind(broker)
    try:
        for process in processes:
            process.start()
        used = producer.use_keys()
        wait_for(lambda: are_recorded(postgresql, used), "the keys to be used again were not recorded")
        producer.start()
        yield World(postgresql, broker, workers, follower, producer, orders, Random(seed))
    finally:
        producer.stop()
        for process in processes:
            process.kill()
