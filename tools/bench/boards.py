"""Many boards: what they cost whoever writes, how far behind they are, and how large they may be."""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop

from .clients import connect
from .figures import RATIO, Row, percentile
from .load import as_fast_as_it_goes, at_a_rate, in_turn
from .usage import cpu_s
from .world import Served, World

PLAYERS = 5_000
RATE, HIGH_RATE = 1_000, 2_000  # increments a second
FOLDS = ("sum", "best")
PERIODS = ("forever", "hourly", "daily", "weekly")
EIGHT = "".join(
    f'[boards.{fold}-{period}]\nfold = "{fold}"\nperiod = "{period}"\n' for fold in FOLDS for period in PERIODS
)
STATE = "{leaderboard}:boards"
BUILT_SQL = (
    "SELECT coalesce(min(p.seq), -1), count(p.seq) FROM boards b LEFT JOIN board_positions p ON p.board_id = b.id"
)
WRITER_SQL = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name = ''"
LOOK_EVERY_S = 0.01


class Lag:
    """How far the boards are behind the log, looked at all the time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._heads: list[tuple[float, int]] = []
        self.copies_s: list[float] = []
        self.standings_s: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Lag:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with self._world.postgresql.open() as database:
            database.autocommit = True
            while not self._ended.wait(LOOK_EVERY_S):
                row: Any = database.execute(
                    f"SELECT (SELECT seq FROM leaderboards), b.* FROM ({BUILT_SQL}) AS b"
                ).fetchone()
                now = time.perf_counter()
                self._heads.append((now, row[0]))
                self.standings_s.append(self._behind(row[1], now))
                state: Any = self._world.redis.client.hgetall(STATE)
                seqs = [int(seq) for name, seq in state.items() if name.startswith(b"seq:")]
                if seqs:
                    self.copies_s.append(self._behind(min(seqs), time.perf_counter()))

    def _behind(self, seq: int, now: float) -> float:
        """Since when the log is further than `seq`."""
        return now - next((at for at, head in self._heads if head > seq), now)


def cost(world: World, seconds: float, rounds: int) -> Iterator[Row]:
    """Increments without boards and with eight on the default points, in turn: medians of the rounds, and their ratios.

    What a shared machine does to one of two neighbours it does to the other as often.
    """
    cases = {"no boards": "", "8 boards, who was first stays ahead": EIGHT}
    found: dict[str, list[Row]] = {case: [] for case in cases}
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            found[case].append(_round(world, case, cases[case], seconds))
    without, with_boards = (_medians(case, rows) for case, rows in found.items())
    yield without
    yield with_boards
    yield _ratios(without, with_boards)


def _round(world: World, case: str, boards: str, seconds: float) -> Row:
    with world.serving(users=PLAYERS, boards=boards) as served:
        requests = in_turn([served.increment(f"user{number}") for number in range(PLAYERS)])
        row = Row("boards", case)
        _steady(served, requests, row, seconds, with_lag=bool(boards))
        answers = run(as_fast_as_it_goes(served.port, requests, seconds=seconds))
        row.add("as fast as it goes", answers.rate, "/s")
    return row


def _medians(case: str, rows: Sequence[Row]) -> Row:
    median = Row("boards", case)
    for figure in rows[0].figures:
        median.add(figure.name, statistics.median(row.value(figure.name) for row in rows), figure.unit)
    return median


def _ratios(without: Row, with_boards: Row) -> Row:
    row = Row("boards", RATIO)
    for figure in without.figures:
        row.add(figure.name, with_boards.value(figure.name) / figure.value)
    return row


def _steady(served: Served, requests: Any, row: Row, seconds: float, *, with_lag: bool) -> None:
    """At a fixed rate, with what each increment costs the web process and the writer's backend."""
    if with_lag:
        until_in_redis(served, "sum-forever", "best-weekly")
    run(at_a_rate(served.port, requests, rate=RATE, seconds=seconds / 2))  # the writer has its connection
    pids = [pid for (pid,) in served.world.ask(WRITER_SQL)]
    before, cpu = served.usage(), {pid: cpu_s(pid) for pid in pids}
    answers = run(at_a_rate(served.port, requests, rate=RATE, seconds=2 * seconds))
    count = len(answers.delays_s)
    row.add_delays(answers.delays_s)
    row.add("web CPU", 1e6 * (served.usage().cpu_s - before.cpu_s) / count, "µs each")
    row.add("writer's backend", 1e6 * max(cpu_s(pid) - cpu[pid] for pid in pids) / count, "µs each")
    if with_lag:
        _behind(served, requests, row, seconds)


def _behind(served: Served, requests: Any, row: Row, seconds: float) -> None:
    """At the higher rate: how far the boards are behind, and for how long a script keeps Redis."""
    redis = served.world.redis.client
    redis.config_set("slowlog-log-slower-than", 2_000)
    redis.slowlog_reset()
    with Lag(served.world) as lag:
        run(at_a_rate(served.port, requests, rate=HIGH_RATE, seconds=seconds))
    copies = sorted(lag.copies_s)
    row.add("copies behind p50", 1000 * percentile(copies, 50), "ms")
    row.add("copies behind p99", 1000 * percentile(copies, 99), "ms")
    row.add("standings behind at most", max(lag.standings_s), "s")
    slow: Any = redis.slowlog_get(128)
    row.add("longest script", max([0, *(entry["duration"] for entry in slow)]) / 1000, "ms")


FILL_SQL = """
    INSERT INTO score_events (seq, user_id, kind, points, total, created_at, actor, reason)
    SELECT n, 'user' || (hashint4(n::int) & 1073741823) %% %(users)s, 'increment', 1 + (hashint4(n::int + 7) & 63), 0,
           now() - interval '1 day' + n * interval '1 millisecond', '', ''
    FROM generate_series(1, %(events)s::bigint) n
"""


def history(world: World, events: int) -> Iterator[Row]:
    """A board that is made when the log is long, and built while writes go on."""
    with world.serving(users=1_000) as served:
        with world.postgresql.open() as database:
            database.execute(FILL_SQL, {"events": events, "users": max(events // 10, 1)})
            database.execute("UPDATE leaderboards SET seq = %s, at = now()", [events])
            database.commit()
            database.autocommit = True
            database.execute("VACUUM (ANALYZE) score_events")
        world.redis.client.flushall()
        requests = in_turn([served.increment(f"user{number}") for number in range(1_000)])
        world.make('[boards.ever]\nfold = "sum"\n')
        started = time.perf_counter()
        while world.ask(BUILT_SQL)[0][0] < events:
            answers = run(at_a_rate(served.port, requests, rate=100, seconds=0.25))
            assert not answers.failed, answers.statuses
        row = Row("history", f"{events:,} events, {events // 10:,} users")
        row.add("built in", time.perf_counter() - started, "s")
    yield row


STANDINGS_SQL = """
    INSERT INTO standings (board_id, period, user_id, key, tie, reached_seq)
    SELECT b.id, 1, 'user' || n, CASE WHEN n < %(wall)s THEN 500000 ELSE (n * 7919::bigint) %% 1000000 END, -(n + 1), n + 1
    FROM boards b, generate_series(0, %(users)s - 1) n
"""


def walls(world: World, users: int, seconds: float) -> Iterator[Row]:
    """Reads of a board of this size, a tenth of which has the same score."""
    with world.serving(boards='[boards.ever]\nfold = "sum"\n') as served:
        until_built(world, 1)
        with world.postgresql.open() as database:
            database.execute(STANDINGS_SQL, {"users": users, "wall": users // 10})
        world.redis.client.flushall()
        until_in_redis(served, "ever")
        row = Row("walls", f"{users:,} members")
        chance = random.Random(users)
        asked = {
            "top 10": ["/boards/ever"],
            "rank": [f"/boards/ever/users/user{chance.randrange(users)}" for _ in range(100)],
            "page in the wall": [f"/boards/ever?limit=100&offset={int(users * 0.5)}"],
        }
        for name, paths in asked.items():
            requests = in_turn([served.get(path) for path in paths])
            answers = run(as_fast_as_it_goes(served.port, requests, clients=1, seconds=seconds))
            assert not answers.failed, answers.statuses
            row.add(name, 1000 * percentile(sorted(answers.delays_s), 50), "ms")
    yield row


def until_built(world: World, boards: int) -> None:
    """Wait until so many boards have standings, in a log without events."""
    while world.ask(BUILT_SQL)[0] != (0, boards):
        time.sleep(0.1)


def until_in_redis(served: Served, *boards: str) -> None:
    for board in boards:
        while b"x-leaderboard-source: redis" not in run(once(served.port, served.get(f"/boards/{board}"))).lower():
            time.sleep(0.1)


async def once(port: int, request: bytes) -> bytes:
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    caller = await connect(port, lambda _, answer: arrived.set_result(answer))
    caller.ask(request)
    answer = await arrived
    caller.transport.close()
    return answer


def midnight(world: World, boards: int) -> Iterator[Row]:
    """So many boards that begin a new period in the same moment, while somebody writes. They are all built by then."""
    boundary = datetime.now(UTC) + timedelta(seconds=10 + boards / 20)
    text = "".join(
        f'[boards.b{number}]\nfold = "sum"\nperiod = "hours"\neveryHours = 24\nanchor = {boundary.isoformat()}\n'
        for number in range(boards)
    )
    with world.serving(boards=text) as served:
        requests = in_turn([served.increment(f"user{number}") for number in range(1_000)])
        until_built(world, boards)
        run(at_a_rate(served.port, requests, rate=100, seconds=1))
        left_s = (boundary - datetime.now(UTC)).total_seconds()
        assert left_s > 2, f"the boards were built {2 - left_s:.0f} s too late"
        time.sleep(left_s - 2)
        answers = run(at_a_rate(served.port, requests, rate=200, seconds=4))
        assert not answers.failed, answers.statuses
        (begun,) = world.ask("SELECT count(*) FROM periods WHERE first_seq IS NOT NULL AND last_seq IS NULL")[0]
        ended = world.ask("SELECT count(*) FROM periods WHERE last_seq IS NOT NULL")[0][0]
        assert (begun, ended) == (boards, boards), (begun, ended)
        row = Row("midnight", f"{boards:,} boards")
        row.add_delays(answers.delays_s)
        row.add("longest wait", 1000 * max(answers.delays_s), "ms")
    yield row


def run(work: Any) -> Any:
    return uvloop.run(work)
