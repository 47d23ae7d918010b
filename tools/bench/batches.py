"""Increments that arrive many together: batches over HTTP, and messages of a broker, against requests of one each."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import uvloop

from leaderboard_site.conf.broker import broker_of
from leaderboard_site.local import DataDirectory, StoreError
from scores.streams.broker import Message, Sink
from scores.streams.kafka import KafkaSink
from scores.streams.rabbitmq import RabbitSink
from tools.chaos.streams import Command
from tools.kafka import Noida
from tools.stores import RabbitMQ

from .figures import Row
from .load import as_fast_as_it_goes, at_a_rate
from .usage import tree_cpu_s
from .world import Served, World

PLAYERS = 1_000
CLIENTS = {1: 64, 100: 8, 1_000: 2}  # by entries of a request: a slow machine must not refuse what waits for too long
RATE = 200  # requests a second of others
LARGE_BATCH = 2_000
START_S = 120
# In one pass: of a table that has grown since it was last analysed, PostgreSQL would look for the first commit once an event.
COMMITS_SQL = """
    SELECT count(*) FILTER (WHERE at > first), coalesce(extract(epoch FROM max(at) - min(first)), 0)::float8
    FROM (SELECT created_at AS at, min(created_at) OVER () AS first FROM score_events WHERE seq > %s) AS e
"""

_numbers = count()


def entries(number: int) -> bytes:
    """So many increments of players in turn, each with a key that nobody has used."""
    made = (b'{"userId":"user%d","points":10,"key":"bench-%d"}' % (n % PLAYERS, n) for n in next_of(number))
    return b"[%s]" % b",".join(made)


def next_of(number: int) -> Iterator[int]:
    return (next(_numbers) for _ in range(number))


# Requests


def batch(world: World, seconds: float, rounds: int) -> Iterator[Row]:
    """Requests of one, of 100 and of 1,000 increments in turn: medians of the rounds, and ratios to requests of one."""
    found: dict[int, list[Row]] = {size: [] for size in CLIENTS}
    with world.serving() as served:
        for number in range(rounds):
            for size in CLIENTS if number % 2 == 0 else reversed(CLIENTS):
                found[size].append(_requests(served, size, seconds))
    medians = [_median(rows) for rows in found.values()]
    for row in medians:
        row.add("times one each", row.value("rate") / medians[0].value("rate"))
        yield row


def _requests(served: Served, size: int, seconds: float) -> Row:
    if size == 1:
        singles = [served.increment(f"user{number}") for number in range(PLAYERS)]
        turn = count()

        def request() -> bytes:
            number = next(turn)
            key = b"\r\nIdempotency-Key: bench-%d\r\n\r\n" % next(_numbers)
            return singles[number % PLAYERS].replace(b"\r\n\r\n", key, 1)

    else:

        def request() -> bytes:
            return served.batch(entries(size))

    before, postgresql = served.usage().cpu_s, tree_cpu_s(served.world.postgresql.postmaster)
    with served.world.postgresql.open() as database:
        first = _seq(database)
        answers = uvloop.run(as_fast_as_it_goes(served.port, request, clients=CLIENTS[size], seconds=seconds))
        assert not answers.failed, answers.statuses
        recorded = _seq(database) - first  # with those of the time before and after the one that counts
    assert recorded >= len(answers.delays_s) * size, "not everything was recorded"
    row = Row("batch", "one each" if size == 1 else f"{size:,} each")
    row.add("rate", answers.rate * size, "increments/s")
    row.add_delays(answers.delays_s)
    row.add("CPU", 1e6 * (served.usage().cpu_s - before) / recorded, "µs each")
    row.add(
        "CPU of PostgreSQL", 1e6 * (tree_cpu_s(served.world.postgresql.postmaster) - postgresql) / recorded, "µs each"
    )
    return row


# Messages


class Filled(NamedTuple):
    """A broker, its process, and how a queue of it is written to."""

    name: str
    url: str
    pid: int
    open: Callable[[str], Sink]
    workers: Sequence[int]  # how many drain it, in turn


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Filled]:
    broker = RabbitMQ(DataDirectory(folder / "broker"))
    broker.program()
    try:
        broker.boot()
        yield Filled("RabbitMQ", broker.url, broker.pid, lambda name: RabbitSink(broker_of(broker.url), name), (1, 2))
    finally:
        broker.stop()


@contextmanager
def kafka(folder: Path) -> Iterator[Filled]:
    broker = Noida(folder)
    broker.boot()

    def topic(name: str) -> Sink:
        broker.make_topics(name, f"{name}.dead")
        return KafkaSink(broker_of(broker.url), name)

    try:
        yield Filled("Kafka's protocol", broker.url, broker.process.pid, topic, (1,))
    finally:
        broker.kill()


def ingest(world: World, seconds: float, rounds: int) -> Iterator[Row]:
    """Full queues are drained, alone in large batches and beside requests of others in usual ones."""
    with world.serving() as served:
        single = _median([_requests(served, 1, seconds) for _ in range(rounds)])
        alone = _median([_beside(served, seconds) for _ in range(rounds)])
    yield _as_ingest(single, "requests of one increment, 64 clients")
    yield alone
    for opened in (rabbitmq, kafka):
        with tempfile.TemporaryDirectory(prefix="broker-", dir=world.folder) as folder:
            try:
                with opened(Path(folder)) as broker:
                    yield from _broker(world, broker, seconds, rounds, single, alone)
            except StoreError:
                yield Row("ingest", f"there is no {opened.__name__} here")


def _broker(world: World, broker: Filled, seconds: float, rounds: int, single: Row, alone: Row) -> Iterator[Row]:
    for size, number in ((100, int(20_000 * seconds)), (1, int(4_000 * seconds))):
        for workers in broker.workers:
            row = _median([_drained(world, broker, size, number * workers, workers) for _ in range(rounds)])
            row.add("times one each", row.value("rate") / single.value("rate"))
            yield row
    with world.serving() as served:
        row = _median([_beside(served, seconds, broker) for _ in range(rounds)])
    for name in ("p50", "p99"):
        row.add(f"{name} grew by", row.value(name) - alone.value(name), "ms")
    yield row


def _drained(world: World, broker: Filled, size: int, number: int, workers: int) -> Row:
    """From the first commit to the last, since all of the `workers` drain."""
    world.fill(0)
    # One connection, since to open one takes PostgreSQL as long as hundreds of increments.
    with (
        draining(world, broker, size, number, workers, INGEST_BATCH=str(LARGE_BATCH)) as processes,
        world.postgresql.open() as database,
    ):
        _until(lambda: _seq(database) > 0 and all(process.works() for process in processes))
        pids = {"PostgreSQL": [world.postgresql.postmaster], "broker": [broker.pid]}
        pids["workers"] = [process.process.pid for process in processes]
        before, first = {name: _cpu_s(group) for name, group in pids.items()}, _seq(database)
        _until(lambda: _seq(database) == number)
        case = f"{broker.name}, {size} a message, " + ("one process" if workers == 1 else f"{workers} processes")
        row = Row("ingest", f"{case}, INGEST_BATCH={LARGE_BATCH}")
        row.add("rate", _rate(database, first), "increments/s")
        for name, group in pids.items():
            row.add(f"CPU of {name}", 1e6 * (_cpu_s(group) - before[name]) / (number - first), "µs each")
    return row


def _cpu_s(pids: Sequence[int]) -> float:
    return sum(tree_cpu_s(pid) for pid in pids)


def _beside(served: Served, seconds: float, broker: Filled | None = None) -> Row:
    """Requests at a steady rate, alone or while a queue is drained that does not become empty meanwhile."""
    singles = [served.increment(f"user{number}") for number in range(PLAYERS)]
    turn = count()

    def load() -> Row:
        answers = uvloop.run(at_a_rate(served.port, lambda: singles[next(turn) % PLAYERS], rate=RATE, seconds=seconds))
        assert not answers.failed, answers.statuses
        row = Row("ingest", f"{RATE} requests a second" + (f", beside {broker.name}, 100 a message" if broker else ""))
        row.add_delays(answers.delays_s)
        return row

    if broker is None:
        return load()
    first = _ingested(served.world)
    with draining(served.world, broker, 100, int(25_000 * seconds)):
        _until(lambda: _ingested(served.world) > first)
        first, started = _ingested(served.world), time.perf_counter()
        row = load()
        row.add("rate", (_ingested(served.world) - first) / (time.perf_counter() - started), "increments/s")
    return row


@contextmanager
def draining(
    world: World, broker: Filled, size: int, number: int, workers: int = 1, **more: str
) -> Iterator[list[Command]]:
    """Workers on a queue of their own that had `number` entries when they started, `size` a message."""
    name = f"bench-{next(_numbers)}"
    sink = broker.open(name)
    messages = [Message(entries(size)) for _ in range(number // size)]
    for start in range(0, len(messages), 2_000):
        sink.send(messages[start : start + 2_000])
    sink.close()
    env = world.env | {"BROKER_URL": broker.url, "INGEST_QUEUE": name} | more
    log, says = world.folder / "ingest.log", f"Process {{}} drains {name}"
    processes = [Command("ingest", env, log, says) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()  # and leaves its group: Kafka waits for a member that was killed


def _as_ingest(row: Row, case: str) -> Row:
    return Row("ingest", case, row.figures)


def _median(rows: Sequence[Row]) -> Row:
    median = Row(rows[0].scenario, rows[0].case)
    for figure in rows[0].figures:
        median.add(figure.name, statistics.median(row.value(figure.name) for row in rows), figure.unit)
    return median


def _seq(database: psycopg.Connection[Any]) -> int:
    found = database.execute("SELECT seq FROM leaderboards").fetchone()
    return found[0] if found else 0


def _ingested(world: World) -> int:
    return int(world.ask("SELECT count(*) FROM score_events WHERE actor = 'service:broker'")[0][0])


def _rate(database: psycopg.Connection[Any], after: int) -> float:
    """Of the events after a seq: those that were later than their first commit, by the seconds from it to the last one."""
    ((number, took_s),) = database.execute(COMMITS_SQL, [after]).fetchall()
    return float(number / took_s) if took_s else 0.0


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < until, "the queue was not drained"
        time.sleep(0.02)
