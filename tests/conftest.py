"""What tests share: one database, one Redis, one server, and the personas who score.

The server and the tests use the same stores, so a test can post over HTTP and look into the tables.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import setup_databases, teardown_databases
from django_redis import get_redis_connection
from redis import Redis
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken
from websockets.sync.client import connect

from leaderboard_site.local import DataDirectory, StoreError, data_dir
from scores import board_selectors, selectors
from scores.access import authentication, limiter
from scores.log import rank_index, refusals
from scores.log.head import log
from scores.log.writer import writer
from scores.stores.redis import breaker
from tests.polling import until
from tools.servers import Server
from tools.stores import RabbitMQ

from .realtime import silence

TokenFor = Callable[..., str]
SILENT = "a_minute_of_silence"
SHARED = "shared by tests"  # what PostgreSQL calls the connections of servers that stand still between their tests
PUBLIC_URL = "https://scores.example.org:8443/leaderboard"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the random order: slow tests first and the one that waits last, or a process has nothing to do at the end.

    In each module tests that write nothing come first, since they share a board.
    """
    modules = {item.path: number for number, item in enumerate(items)}

    def place(item: pytest.Item) -> tuple[bool, bool, int, bool]:
        is_slow, writes_nothing = (item.get_closest_marker(name) is not None for name in ("slow", "writes_nothing"))
        return SILENT in fixtures_of(item), not is_slow, modules[item.path], not writes_nothing

    items.sort(key=place)


def fixtures_of(item: pytest.Item) -> Sequence[str]:
    return getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def _stores(django_db_blocker: Any) -> Iterator[None]:
    """A migrated database. Not by pytest-django's marks: they give each test a transaction, and the server has its own."""
    with django_db_blocker.unblock():
        databases = setup_databases(verbosity=0, interactive=False)
        yield
        # Their connections would keep the database from being dropped.
        writer.batcher.close()
        selectors.reader.batcher.close()
        board_selectors.reader.close()
        refusals.batcher.close()
        limiter.batcher.close()
        rank_index.rank_indexer.stop()
        teardown_databases(databases, verbosity=0)


def database_url(name: str = "", **parameters: str) -> str:
    """The tests' database as DATABASE_URL has it, or another one of the same server, with parameters of libpq."""
    database = connection.settings_dict
    query = urlencode({"host": database["HOST"], "port": database["PORT"]} | parameters, quote_via=quote)
    return f"postgresql://postgres@/{name or database['NAME']}?{query}"


@dataclass
class EmptyBoard:
    """What happened to the board since it was emptied."""

    is_untouched: bool = False  # only tests that write nothing had it
    is_noticed: bool = False  # by the server that all tests share


@pytest.fixture(scope="session")
def _empty(_stores: None) -> EmptyBoard:
    return EmptyBoard()


@pytest.fixture
def board(request: pytest.FixtureRequest, _empty: EmptyBoard) -> Iterator[None]:
    """An empty board. Every test that touches a store asks for it.

    Tests with the mark `writes_nothing` share one, and after each of them it is still empty.
    """
    writes_nothing = request.node.get_closest_marker("writes_nothing") is not None
    if not (writes_nothing and _empty.is_untouched):
        empty_board()
        _empty.is_noticed = False
    _empty.is_untouched = False
    yield
    if writes_nothing:
        assert tables_with_rows() == []
        _empty.is_untouched = True
    connection.close()


def tables_with_rows() -> list[str]:
    """Which tables of scores and users are not as `empty_board` leaves them."""
    tables = ["blocks", "score_events", "user_scores", "actions", "service_tokens", "auth_user", "ended_accounts"]
    tables += [
        "boards",
        "periods",
        "board_positions",
        "standings",
        "results",
        "webhook_deliveries",
        "queued_refusals",
        OutstandingToken._meta.db_table,
    ]
    of_each = [f"(SELECT '{table}' FROM {table} LIMIT 1)" for table in tables]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join([*of_each, "SELECT 'leaderboards' FROM leaderboards WHERE seq > 0"]))
        return [table for (table,) in cursor.fetchall()]


# What is written here, with what refers to others first.
TABLES = [
    *("leaderboards", "blocks", "score_events", "user_scores", "actions", "service_tokens"),
    *("results", "webhook_deliveries", "standings", "board_positions", "periods", "boards", "followers"),
    # The position first: whoever folds has its row, and a fold that comes later finds none.
    *("engagement_position", "engagement_hours", "engagement_days", "engagement_weeks", "engagement_players"),
    *("engagement_sockets", "queued_refusals"),
]


def _are_rows_gone() -> bool:
    """`False` if the follower of a server has written of a board that goes, as of one that it has just built."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")
            OutstandingToken.objects.all().delete()
            get_user_model().objects.all().delete()
            cursor.execute("DELETE FROM ended_accounts")  # last: it has the names of those accounts by now
    except (IntegrityError, OperationalError):  # of the second kind are deadlocks
        return False
    return True


def empty_board() -> None:
    """Forget every score, user and token.

    By DELETE under the writers' own lock: TRUNCATE, which pytest-django uses, can deadlock with the server that other
    tests share, and costs 70 ms.
    """
    until(_are_rows_gone)
    get_redis_connection("bulk").flushdb()
    breaker.succeeded()
    refusals.breaker.succeeded()
    authentication._cache.clear()


@pytest.fixture
def rival(board: None) -> Iterator[BaseDatabaseWrapper]:
    """A second connection to the database: another worker's, or an administrator's."""
    other = connection.copy()
    yield other
    other.close()


@pytest.fixture
def redis(board: None) -> Iterator[Redis]:
    """A client of the test's own, which waits for as long as it takes."""
    with Redis.from_url(settings.REDIS_URL) as client:
        yield client


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A broker that began without queues, for all tests of a process. Who hurts it boots it again.

    It has a folder to itself among the tests' data, which has no user but those that tests make. Without the program a
    test is skipped, or fails where REQUIRE_PROGRAMS is set.
    """
    broker = RabbitMQ(DataDirectory(data_dir() / "broker"))
    try:
        broker.program()
    except StoreError as error:
        if not os.environ.get("REQUIRE_PROGRAMS"):
            pytest.skip(str(error))
        raise
    broker.stop()  # of tests that were killed
    broker.forget()
    try:
        broker.boot()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def _server(_stores: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with standing_still(tmp_path_factory.mktemp("server")) as server:
        yield server


@contextmanager
def standing_still(folder: Path, **env: str) -> Generator[Server, None, None]:
    """A server on the tests' stores that stands still until a test resumes it.

    The test database is named in settings by now; the server has to be told.
    """
    env = {"DATABASE_URL": database_url(), "PGAPPNAME": SHARED} | env
    server = Server(log=folder / "log", env=env).start()
    wait_until_noticed(server)
    pause(server)
    yield server
    server.stop()


def pause(server: Server) -> None:
    """Stop a server, but not amid a rebuild or a transaction: it would keep its locks.

    No other process could rebuild the copy, and a test that changes a table would wait for ever.
    """
    with suppress(DatabaseError):  # a database that is away holds no lock
        for _ in range(100):
            server.pause()  # first, or it could begin one after the look
            log.drop_dead_connection()
            if not log.rebuild_under_way() and not is_in_transaction():
                return
            server.resume()
            time.sleep(0.01)
    server.pause()


def is_in_transaction() -> bool:
    """Whether a server that tests share is in one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s AND xact_start IS NOT NULL)",
            [SHARED],
        )
        return bool(cursor.fetchone()[0])


@pytest.fixture
def server(_server: Server, board: None, _empty: EmptyBoard) -> Iterator[Server]:
    """A running server with an empty board, which its API and its sockets have noticed.

    It stands still while a test runs that does not ask for it: it would mend the copy that the test broke, and tell
    everybody about writes that the test wants untold.
    """
    _server.resume()
    try:
        if not _empty.is_noticed:
            wait_until_noticed(_server)
            _empty.is_noticed = True
        yield _server
    finally:
        pause(_server)


def wait_until_noticed(server: Server) -> None:
    """Return when the API and the sockets of `server` show the log that the database has now."""
    origin = log.head().origin
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = httpx.get(f"{server.url}/api/v1/leaderboard", verify=False)
        if answer.headers.get("X-Leaderboard-Source") == "redis" and origin in answer.headers["ETag"]:
            break
        time.sleep(0.01)
    else:
        raise AssertionError(f"the server did not notice the empty board: {answer.text}\n{server.log.read_text()}")
    with connect(server.ws_url) as socket:
        while json.loads(socket.recv(timeout=30))["epoch"] != origin:
            pass


@pytest.fixture(scope="session")
def _below_a_path(_stores: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "PUBLIC_URL": PUBLIC_URL,
        "ALLOWED_HOSTS": "127.0.0.1,localhost,scores.example.org",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    with standing_still(tmp_path_factory.mktemp("below_a_path"), **env) as server:
        yield server


@pytest.fixture
def below_a_path(_below_a_path: Server, board: None) -> Iterator[Server]:
    """A server behind a proxy that people find at `PUBLIC_URL`. It stands still as `server` does."""
    _below_a_path.resume()
    try:
        wait_until_noticed(_below_a_path)
        yield _below_a_path
    finally:
        pause(_below_a_path)


@pytest.fixture(scope="session", autouse=True)
def _minute(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Begun with the first test, so that the one who asks for it, which comes last, need not wait for all of it."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if worker else folder) / "silence"  # one for all processes
    if worker not in (None, "gw0") or not any(SILENT in fixtures_of(item) for item in request.session.items):
        yield folder
        return
    ended = threading.Event()
    minute = silence.begin(folder, ended)
    yield folder
    session = request.session
    if session.shouldfail or session.shouldstop or session.exitstatus == pytest.ExitCode.INTERRUPTED:
        ended.set()
    minute.join()


@pytest.fixture
def a_minute_of_silence(_minute: Path) -> Path:
    """Where it is told what an open socket saw in a minute without a change."""
    return _minute


@pytest.fixture
def token_for() -> TokenFor:
    """Makes access tokens: `token_for("ann")`, `token_for("ann", exp=0)`; a claim of `None` is left out."""

    def make(user_id: Any, **claims: Any) -> str:
        token = AccessToken()
        token.payload |= {"user_id": user_id} | claims
        token.payload = {name: value for name, value in token.payload.items() if value is not None}
        return str(token)

    return make


@pytest.fixture(autouse=True)
def _receivers_do_not_fail(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """`send_robust` hides the errors of receivers, in tests too; this finds them."""
    yield
    if request.node.get_closest_marker("receiver_fails") is None:
        records = caplog.get_records("call") + caplog.get_records("setup")
        hidden = [r for r in records if r.name == "django.dispatch" and r.levelno >= logging.ERROR]
        assert not hidden, f"a receiver failed unnoticed: {hidden[0].exc_info}"
