"""What a server says of itself: to the one who restarts it, to the one who routes around it, and to an administrator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from scores.projection.leaderboard import leaderboard
from tests.conftest import TokenFor, database_url
from tests.polling import until
from tools.servers import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose Redis is away."""
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "REDIS_URL": "redis://127.0.0.1:1/0"}
    alone = Server(log=tmp_path_factory.mktemp("alone") / "log", env=env).start()
    yield alone
    alone.stop()


def ready(server: Server) -> tuple[int, str]:
    answer = httpx.get(f"{server.url}/healthz/ready", timeout=30, verify=False)
    return answer.status_code, answer.json()["status"]


def record(server: Server, token: str) -> None:
    """Score, or an outage in an earlier test would still be told."""
    url, headers = f"{server.url}/api/v1/scores/increment", {"Authorization": f"Bearer {token}"}
    assert httpx.post(url, json={"points": 1}, headers=headers, timeout=30, verify=False).status_code == 200


def becomes(server: Server, expected: tuple[int, str], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while (now := ready(server)) != expected:
        assert time.monotonic() < deadline, now
        time.sleep(0.05)


def checkup(server: Server, token: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{server.url}/healthz/deep", headers=headers, timeout=30, verify=False)


def test_a_server_with_its_stores_is_ready(server: Server, token_for: TokenFor) -> None:
    record(server, token_for("ann"))

    becomes(server, (200, "ok"))


def test_a_server_without_redis_is_ready_and_says_that_it_is_away(alone: Server, board: None) -> None:
    becomes(alone, (200, "degraded"))


def test_a_server_without_its_database_is_not_ready_and_lives(tmp_path: Path, board: None) -> None:
    lost = Server(log=tmp_path / "log", env={"DATABASE_URL": "postgresql://127.0.0.1:1/none"}).start()

    try:
        assert ready(lost) == (503, "database away")
        assert httpx.get(f"{lost.url}/healthz/live", verify=False).json()["status"] == "ok"
    finally:
        lost.stop()


def test_a_server_before_its_migrations_is_not_ready(server: Server, tmp_path: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS unmigrated")
        cursor.execute("CREATE DATABASE unmigrated")
    early = Server(log=tmp_path / "log", env={"DATABASE_URL": database_url("unmigrated")}).start()

    try:
        assert ready(early) == (503, "migrations missing")
    finally:
        early.stop()
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE unmigrated WITH (FORCE)")


@pytest.mark.uvicorn("has no handler of SIGTERM to wait for")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_is_to_end_says_so_and_goes_on_for_a_while(workers: str, server: Server, tmp_path: Path) -> None:
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "DRAIN_S": "60", "WORKERS": workers}
    ending = Server(log=tmp_path / "log", env=env).start()
    try:
        becomes(ending, (200, "ok"))

        ending.process.terminate()

        becomes(ending, (503, "draining"))
        assert httpx.get(f"{ending.url}/api/v1/leaderboard", verify=False).status_code == 200
    finally:
        assert ending.stop() == 0  # a second signal skips what is left of the drain


@pytest.mark.uvicorn("has no handler of SIGTERM to wait for")
def test_it_ends_by_itself_when_the_drain_is_over(server: Server, tmp_path: Path) -> None:
    ending = Server(log=tmp_path / "log", env={"DATABASE_URL": server.env["DATABASE_URL"], "DRAIN_S": "1"}).start()

    ending.process.terminate()

    assert ending.process.wait(30) == 0


def leaderboard_is_at(seq: int) -> bool:
    state = leaderboard.state()
    return state is not None and state.seq == seq


def test_an_administrator_is_told_of_every_part(server: Server, token_for: TokenFor) -> None:
    get_user_model().objects.create_user("root", is_staff=True)
    record(server, token_for("ann"))
    until(lambda: leaderboard_is_at(1))

    answer = checkup(server, token_for("root"))

    assert answer.status_code == 200, answer.text
    parts = {name: answer.json()[name] for name in ("database", "writer", "redis", "group", "copy")}
    assert all(part["status"] == "ok" and part["ms"] >= 0 for part in parts.values())
    assert parts["copy"]["seq"] == parts["copy"]["log_seq"] == 1


def test_a_part_that_does_not_answer_is_named(alone: Server, board: None, token_for: TokenFor) -> None:
    get_user_model().objects.create_user("root", is_staff=True)

    answer = checkup(alone, token_for("root"))

    assert answer.status_code == 503
    told = answer.json()
    assert [name for name in ("database", "redis", "group", "copy") if told[name]["status"] == "ill"] == [
        "redis",
        "group",
        "copy",
    ]


def test_nobody_else_is_told(server: Server, token_for: TokenFor) -> None:
    get_user_model().objects.create_user("ann")

    assert checkup(server).status_code == 401
    assert checkup(server, token_for("ann")).status_code == 403
    assert checkup(server, token_for("nobody")).status_code == 403
