"""What tests of scores share: a client of the API, the copy, and somebody else's connection to the database."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from leaderboard_site.local import DataDirectory
from scores import board_selectors, metrics
from scores.board import LEADERBOARD
from scores.boards.catalogue import Catalogue
from scores.boards.copies import BoardCopies
from scores.boards.follower import BoardFollower
from scores.log.head import log
from scores.models import Leaderboard, ScoreEvent, UserScore
from scores.projection.leaderboard import leaderboard
from scores.projection.receivers import move_leaderboard
from scores.projection.tail import tail
from scores.signals import scores_committed
from tests.conftest import TokenFor
from tools.pooler import Pooler
from tools.servers import Server
from tools.stores import PostgreSQL

Post = Callable[..., httpx.Response]


@pytest.fixture
def api(server: Server) -> Iterator[httpx.Client]:
    """A client whose addresses start after /api/v1."""
    with httpx.Client(base_url=f"{server.url}/api/v1", verify=False, timeout=30) as client:
        yield client


@pytest.fixture
def increment(api: httpx.Client, token_for: TokenFor) -> Post:
    """Posts points for a user: `increment("ann", 10)`, or with an Idempotency-Key: `increment("ann", 10, key="a")`."""

    def post(user_id: str, points: int, *, key: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token_for(user_id)}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return api.post("/scores/increment", json={"points": points}, headers=headers)

    return post


@pytest.fixture(scope="module")
def pooler(_stores: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooler]:
    """PgBouncer in front of the tests' PostgreSQL. Mark who asks for it with `needs("pgbouncer")`."""
    pooler = Pooler(PostgreSQL(DataDirectory(Path(os.environ["DATA_DIR"]))), tmp_path_factory.mktemp("pooler"))
    pooler.start()
    yield pooler
    pooler.kill()


@pytest.fixture
def copy(redis: Redis) -> Redis:
    """A whole copy of the empty board."""
    leaderboard.rebuild()
    return redis


@pytest.fixture
def copies(redis: Redis) -> BoardCopies:
    """The copies of the boards beside the default one."""
    return BoardCopies(LEADERBOARD)


@pytest.fixture
def follower(copies: BoardCopies) -> BoardFollower:
    """It moves boards when a test tells it to: `settle(follower)`."""
    return BoardFollower(log, copies)


@pytest.fixture
def reader(copies: BoardCopies) -> board_selectors.BoardReader:
    """Reads boards from both stores."""
    return board_selectors.BoardReader(Catalogue(log), copies, tail, log)


@pytest.fixture
def forgetful(redis: Redis) -> Iterator[None]:
    """A Redis that forgets its scripts all the time."""
    done = threading.Event()

    def forget() -> None:
        with Redis.from_url(settings.REDIS_URL) as other:
            while not done.is_set():
                other.script_flush()

    thread = threading.Thread(target=forget)
    thread.start()
    yield
    done.set()
    thread.join()


def copy_is_true(redis: Redis) -> bool:
    """Whether Redis holds what the database holds, member by member, and knows how far in the log that is."""
    if redis.type("leaderboard") not in (b"zset", b"none") or redis.type("leaderboard:state") != b"hash":
        return False
    rows: Any = redis.zrange("leaderboard", 0, -1, withscores=True)
    members = {member.decode(): int(score) for member, score in rows}
    head = log.head()
    state = {
        b"origin": head.origin,
        b"seq": head.seq,
        b"members": head.members,
        b"mark": f"{head.seq}:{head.mark or ''}",
    }
    return members == dict(log.visible_totals(chunk=100)) and redis.hgetall("leaderboard:state") == {
        name: str(value).encode() for name, value in state.items()
    }


def by_another_thread(work: Callable[[], object]) -> None:
    """Do `work` on a connection of its own, and wait for it; raises what it raises."""

    def do() -> None:
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(do).result()


def be_ahead() -> datetime:
    """Set the log's clock, which never goes back, to noon of tomorrow, so that no hour and no day ends amid a test."""
    log.head()  # it is there
    noon = datetime.combine(datetime.now(UTC).date() + timedelta(days=1), time(12), UTC)
    Leaderboard.objects.update(at=noon)
    return noon


@contextmanager
def hooks_lost() -> Iterator[None]:
    """Commits are not told to the copy, as when a worker dies right after them."""
    before = list(scores_committed.receivers)
    assert scores_committed.disconnect(dispatch_uid="move_leaderboard")
    try:
        yield
    finally:
        scores_committed.connect(move_leaderboard, dispatch_uid="move_leaderboard")
        # In front of the hub's again, which otherwise would not know yet that the commit is announced, and read twice.
        scores_committed.receivers = before


def rebuilds() -> float:
    """How many this process has begun."""
    return sum(
        sample.value for metric in metrics.rebuilds.collect() for sample in metric.samples if "_total" in sample.name
    )


@contextmanager
def stopped(redis: Redis, *, for_s: float = 60.0) -> Iterator[None]:
    """It answers nothing until the end of the block, or for so long if that is shorter."""
    info: Any = redis.info("server")
    pid: int = info["process_id"]
    waking = threading.Timer(for_s, os.kill, (pid, signal.SIGCONT))
    os.kill(pid, signal.SIGSTOP)  # whose effect is immediate: it runs no line more
    waking.start()
    try:
        yield
    finally:
        waking.cancel()
        os.kill(pid, signal.SIGCONT)


def nothing_was_written() -> bool:
    return not ScoreEvent.objects.exists() and not UserScore.objects.exists()
