"""What is measured, one function each: it gets the world and what to do it with, and returns its rows."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvloop

from . import batches, boards, exports, publishing
from .clients import Caller, Watcher, connect, watch_many
from .figures import Row, percentile
from .load import Answers, as_fast_as_it_goes, at_a_rate, in_turn
from .world import Served, World

USERS = 1_000
ETAG = re.compile(rb"\r\netag: (\S+)", re.IGNORECASE)
FROM_REDIS = re.compile(rb"\r\nx-leaderboard-source: redis", re.IGNORECASE)


@dataclass(frozen=True)
class Effort:
    """How much of everything. The small one shows that it works, and no more."""

    seconds: float = 5.0
    rounds: int = 5
    sockets: tuple[tuple[int, float], ...] = ((1_000, 20.0), (3_000, 20.0), (8_000, 10.0))  # with changes a second
    storm: int = 5_000
    readers: int = 2_000
    timeout_s: float = 45.0  # with those who read nothing
    boards: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    events: int = 10_000_000  # of the log of a board that is made late
    midnight: int = 1_000  # boards that roll over at once
    exported: int = 4_000_000  # events
    published: int = 200_000  # events


SMALL = Effort(
    seconds=0.5,
    rounds=1,
    sockets=((50, 10.0),),
    storm=100,
    readers=50,
    timeout_s=0.5,
    boards=(1_000, 5_000),
    events=5_000,
    midnight=20,
    exported=5_000,
    published=2_000,
)

Scenario = Callable[[World, Effort], Iterator[Row]]


def writes(world: World, effort: Effort) -> Iterator[Row]:
    """Increments by 64 clients, as fast as answers come, and 500 a second."""
    chance = random.Random(1)
    zipf = chance.choices(range(USERS), [1 / (rank + 1) for rank in range(USERS)], k=20_000)
    patterns = {
        "spread over 1,000 users": range(USERS),
        "by Zipf's law over 1,000 users": zipf,
        "one hot user": [0],
    }
    for case, users in patterns.items():
        with world.serving() as served:
            yield increments(served, effort, case, users)
    with world.serving(workers=2) as served:
        yield increments(served, effort, "spread, two workers", range(USERS))
    with world.serving() as served:
        requests = in_turn([served.increment(f"user{number}") for number in range(USERS)])
        answers = checked(run(at_a_rate(served.port, requests, rate=500, seconds=effort.seconds)))
        row = Row("writes", "500 a second")
        row.add("rate", answers.rate, "/s")
        row.add_delays(answers.delays_s)
        yield row


def increments(served: Served, effort: Effort, case: str, users: Any) -> Row:
    tokens = {user: served.increment(f"user{user}") for user in set(users)}
    before = served.usage()
    requests = in_turn([tokens[user] for user in users])
    answers = checked(run(as_fast_as_it_goes(served.port, requests, seconds=effort.seconds)))
    after = served.usage()
    row = Row("writes", case)
    row.add("rate", answers.rate, "/s")
    row.add_delays(answers.delays_s)
    # An event's time is the start of its transaction, so a batch is the events of one time.
    batches = [size for (size,) in served.world.ask("SELECT count(*) FROM score_events GROUP BY created_at")]
    row.add("CPU", 1e6 * (after.cpu_s - before.cpu_s) / sum(batches), "µs each")
    row.add("batch", percentile(sorted(batches), 50))
    row.add("largest", max(batches))
    return row


def reads(world: World, effort: Effort) -> Iterator[Row]:
    """The top 10 over HTTP, whole, and to clients that have it."""
    with world.serving(users=USERS) as served:
        tag = run(etag(served))
        for case, asked in {
            "top 10": served.get("/leaderboard"),
            "top 10, not modified": served.get("/leaderboard", {"If-None-Match": tag}),
        }.items():
            before = served.usage()
            answers = checked(run(as_fast_as_it_goes(served.port, in_turn([asked]), seconds=effort.seconds)))
            row = Row("reads", case)
            row.add("rate", answers.rate, "/s")
            row.add_delays(answers.delays_s)
            row.add("CPU", 1e6 * (served.usage().cpu_s - before.cpu_s) / sum(answers.statuses.values()), "µs each")
            yield row


async def etag(served: Served) -> str:
    """Of the top 10, once it comes from Redis."""
    while True:
        answer = await once(served, served.get("/leaderboard"))
        if FROM_REDIS.search(answer) and (found := ETAG.search(answer)):
            return found[1].decode()
        await asyncio.sleep(0.05)


async def once(served: Served, request: bytes) -> bytes:
    """The answer to one request."""
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    caller = await connect(served.port, lambda _, answer: arrived.set_result(answer))
    caller.ask(request)
    answer = await arrived
    caller.transport.close()
    return answer


def fanout(world: World, effort: Effort) -> Iterator[Row]:
    """Frames to many sockets while the probe scores, from its request to each socket's frame."""
    for sockets, hertz in effort.sockets:
        with world.serving() as served:
            yield run(push(served, sockets, hertz, effort.seconds))


async def push(served: Served, sockets: int, hertz: float, seconds: float) -> Row:
    await top_ten(served)
    idle = served.usage()
    watchers = await watch_many(served.port, sockets)
    await asyncio.sleep(1)
    opened = served.usage()
    frames = sum(watcher.frames for watcher in watchers)
    posted = await post_probe(served, hertz, seconds)
    pushed = served.usage()
    frames = sum(watcher.frames for watcher in watchers) - frames
    row = Row("fanout", f"{sockets:,} sockets, {hertz:g} changes a second")
    row.add("frames", frames / seconds, "/s")
    row.add_delays(delays(watchers, posted))
    row.add("CPU", 1e6 * (pushed.cpu_s - opened.cpu_s) / frames, "µs a frame")
    row.add("memory", 1024 * (opened.rss_mib - idle.rss_mib) / sockets, "KiB a socket")
    for watcher in watchers:
        watcher.transport.close()
    return row


async def top_ten(served: Served) -> None:
    """Nine others and the probe, far above everybody."""
    for place in range(9):
        await once(served, served.increment(f"user{place}", 900_000 + place))
    await once(served, served.probe(900_009))
    served.probe_total = 900_009


async def post_probe(served: Served, hertz: float, seconds: float) -> dict[int, float]:
    """Score at a steady rate; returns when the request was sent that led to each total, and waits for the last frames."""
    posted: dict[int, float] = {}

    def answered(caller: Caller, answer: bytes) -> None:
        assert b" 200 " in answer[:20], answer

    caller = await connect(served.port, answered)
    started = time.perf_counter()
    for number in range(int(hertz * seconds)):
        await asyncio.sleep(started + number / hertz - time.perf_counter())
        served.probe_total += 1
        posted[served.probe_total] = time.perf_counter()
        caller.ask(served.probe())
    await asyncio.sleep(1)
    caller.transport.close()
    return posted


def delays(watchers: list[Watcher], posted: dict[int, float]) -> list[float]:
    """From each request to the first frame with its total or a later one, for every socket."""
    found = []
    for watcher in watchers:
        seen = min(posted) - 1
        for at, score in watcher.sights:
            found += [at - posted[total] for total in range(seen + 1, score + 1) if total in posted]
            seen = max(seen, score)
        watcher.sights.clear()
    return found


def storm(world: World, effort: Effort) -> Iterator[Row]:
    """Everybody connects at once."""
    with world.serving(users=USERS) as served:
        yield run(connect_at_once(served, effort.storm))


async def connect_at_once(served: Served, sockets: int) -> Row:
    await etag(served)  # the copy is there
    before, scripts = served.usage(), scripts_run(served.world)
    started = time.perf_counter()
    watchers = await watch_many(served.port, sockets, at_once=sockets)
    took_s = time.perf_counter() - started
    row = Row("storm", f"{sockets:,} sockets at once")
    row.add("until the last has its frame", took_s, "s")
    row.add_delays([watcher.first_frame.result() - started for watcher in watchers])
    row.add("CPU", 1e6 * (served.usage().cpu_s - before.cpu_s) / sockets, "µs a socket")
    # The tail and the hub look by themselves, some five times a second.
    row.add("questions to Redis", scripts_run(served.world) - scripts)
    for watcher in watchers:
        watcher.transport.close()
    return row


def scripts_run(world: World) -> int:
    stats: Any = world.redis.client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


def slow(world: World, effort: Effort) -> Iterator[Row]:
    """A tenth of the sockets is never read from."""
    with world.serving() as served:
        yield from run(with_slow_readers(served, effort))


async def with_slow_readers(served: Served, effort: Effort) -> list[Row]:
    await top_ten(served)
    watchers = await watch_many(served.port, effort.readers)
    dead, others = watchers[::10], [w for number, w in enumerate(watchers) if number % 10]
    without = Row("slow", f"{len(watchers):,} sockets, all of them read")
    posted = await post_probe(served, 20, effort.seconds)
    without.add_delays(delays(others, posted))

    before, ports = served.usage(), {watcher.transport.get_extra_info("sockname")[1] for watcher in dead}
    for watcher in dead:
        watcher.transport.pause_reading()
    began, most_mib = time.perf_counter(), before.rss_mib
    posted = await post_probe(served, 20, effort.seconds)
    row = Row("slow", f"{len(dead):,} of them are not read from")
    row.add_delays(delays(others, posted))
    while (left := served.holds(ports)) > 0:
        most_mib = max(most_mib, served.usage().rss_mib)
        if time.perf_counter() - began > effort.timeout_s:
            break
        await once(served, served.probe())  # so that there is something to read
        served.probe_total += 1
        await asyncio.sleep(0.05)
    row.add("memory grew by", most_mib - before.rss_mib, "MiB")
    row.add("closed", len(dead) - left)
    row.add("the last after", time.perf_counter() - began, "s")
    for watcher in watchers:
        watcher.transport.close()
    return [without, row]


def growth(world: World, effort: Effort) -> Iterator[Row]:
    """The same on small and large boards; with Redis, without it, and while the copy is made anew."""
    for users in effort.boards:
        with world.serving(users=users) as served:
            yield grown(served, users, effort)


def grown(served: Served, users: int, effort: Effort) -> Row:
    row = Row("growth", f"{users:,} users")
    run(etag(served))
    chance = random.Random(users)
    writers = [served.increment(f"user{chance.randrange(users)}", 1) for _ in range(USERS)]
    seconds = effort.seconds / 2
    answers = checked(run(as_fast_as_it_goes(served.port, in_turn(writers), seconds=seconds)))
    row.add("increments", answers.rate, "/s")
    asked = {
        "top 10": [served.get("/leaderboard")],
        "rank": [served.get(f"/users/user{chance.randrange(users)}") for _ in range(100)],
        "page": [served.get(f"/leaderboard?limit=100&offset={chance.randrange(users)}") for _ in range(100)],
    }
    for name, requests in asked.items():
        row.add(name, 1000 * median_alone(served, requests, seconds), "ms")
    run(rebuild(served, writers, row))
    served.world.redis.kill()
    try:
        for name, requests in asked.items():
            row.add(f"{name} without Redis", 1000 * median_alone(served, requests, seconds), "ms")
    finally:
        served.world.redis.boot()
    return row


def median_alone(served: Served, requests: list[bytes], seconds: float) -> float:
    """Of one client that asks one thing after the other."""
    answers = checked(run(as_fast_as_it_goes(served.port, in_turn(requests), clients=1, seconds=seconds)))
    return percentile(sorted(answers.delays_s), 50)


async def rebuild(served: Served, writers: list[bytes], row: Row) -> None:
    """Lose the copy under 200 increments a second, and wait until reads come from Redis again."""
    before, most_mib, ended = served.usage(), 0.0, asyncio.Event()
    load = asyncio.ensure_future(at_a_rate(served.port, in_turn(writers), rate=200, seconds=120, ended=ended))
    await asyncio.sleep(1)
    served.world.redis.client.flushall()
    started = time.perf_counter()
    while not FROM_REDIS.search(await once(served, served.get("/leaderboard?limit=1"))):
        most_mib = max(most_mib, served.usage().rss_mib)
        await asyncio.sleep(0.02)
    took_s = time.perf_counter() - started
    ended.set()
    checked(await load)
    row.add("rebuilt in", took_s, "s")
    row.add("memory grew by", max(0.0, most_mib - before.rss_mib), "MiB")


def many_boards(world: World, effort: Effort) -> Iterator[Row]:
    """Increments with and without eight boards that count them, in turn, 1,000 a second and as fast as answers come."""
    yield from boards.cost(world, effort.seconds, effort.rounds)


def history(world: World, effort: Effort) -> Iterator[Row]:
    """A board that is made when the log is long already."""
    yield from boards.history(world, effort.events)


def walls(world: World, effort: Effort) -> Iterator[Row]:
    """Reads of boards where a tenth of the members have the same score, one after the other."""
    for users in (effort.boards[0], effort.boards[-1]):
        yield from boards.walls(world, users, effort.seconds / 2)


def midnight(world: World, effort: Effort) -> Iterator[Row]:
    """Many boards begin a new period at once."""
    yield from boards.midnight(world, effort.midnight)


def export(world: World, effort: Effort) -> Iterator[Row]:
    """`manage.py export_events` to an empty folder: medians of the rounds."""
    yield from exports.export(world, effort.exported, effort.rounds)


def publish(world: World, effort: Effort) -> Iterator[Row]:
    """All events of a log to a broker, which confirms each message."""
    yield from publishing.publish(world, effort.published)


def batch(world: World, effort: Effort) -> Iterator[Row]:
    """Requests of one increment by 64 clients, batches of 100 by 8 and of 1,000 by 2, in turn."""
    yield from batches.batch(world, effort.seconds, effort.rounds)


def ingest(world: World, effort: Effort) -> Iterator[Row]:
    """`manage.py ingest` drains full queues, alone and beside requests of others."""
    yield from batches.ingest(world, effort.seconds, effort.rounds)


SCENARIOS: dict[str, Scenario] = {
    "writes": writes,
    "reads": reads,
    "fanout": fanout,
    "storm": storm,
    "slow": slow,
    "growth": growth,
    "boards": many_boards,
    "history": history,
    "walls": walls,
    "midnight": midnight,
    "batch": batch,
    "ingest": ingest,
    "export": export,
    "publish": publish,
}


def checked(answers: Answers) -> Answers:
    """A figure of a load of which some was refused would be a figure of something else."""
    if answers.failed:
        raise AssertionError(f"not everything was answered well: {answers.statuses}")
    return answers


def run(work: Any) -> Any:
    return uvloop.run(work)
