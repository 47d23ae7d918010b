"""The processes that drain a broker beside the server: from a client's increment to the board, and their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from scores.models import UserScore
from tests.conftest import TokenFor, database_url, wait_until_noticed
from tests.polling import until
from tools.servers import ROOT, UVICORN, Server
from tools.stores import RabbitMQ

pytestmark = pytest.mark.slow
INGEST = (sys.executable, "manage.py", "ingest")


@pytest.fixture
def serving(board: None, rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Server]:
    """A server with two processes that drain a queue of its own."""
    env = {
        "DATABASE_URL": database_url(),
        "BROKER_URL": rabbitmq.url,
        "INGEST": "2",
        "INGEST_QUEUE": f"served-{uuid4().hex[:12]}",
        "METRICS_TOKEN": "m" * 16,
        "LOG_LEVEL": "INFO",
    }
    serving = Server(log=tmp_path / "log", env=env, command=UVICORN).start()
    wait_until_noticed(serving)
    yield serving
    serving.stop()


def test_an_increment_through_the_broker_is_on_the_board(serving: Server, token_for: TokenFor) -> None:
    headers = {"Authorization": f"Bearer {token_for('ann')}", "Prefer": "respond-async"}

    def metrics() -> str:
        return httpx.get(f"{serving.url}/metrics", headers={"Authorization": f"Bearer {'m' * 16}"}).text

    with httpx.Client(base_url=serving.url, headers=headers, timeout=30) as client:
        answer = client.post("/api/v1/scores/increment", json={"points": 3})
        assert answer.status_code == 202

        until(lambda: client.get(answer.headers["Location"]).json().get("newScore") == 3)
        until(lambda: client.get("/api/v1/leaderboard").json()["leaderboard"] != [])
        board = client.get("/api/v1/leaderboard").json()

    assert board["leaderboard"] == [{"rank": 1, "userId": "ann", "score": 3}]
    # Acknowledged and counted after its commit, which the board shows.
    until(lambda: "leaderboard_ingested_messages_total 1.0" in metrics())
    assert 'leaderboard_increments_total{result="recorded"} 1.0' in metrics()


def test_processes_that_die_are_started_again_and_all_end_with_the_server(serving: Server, token_for: TokenFor) -> None:
    def started() -> list[int]:
        lines = [line for line in serving.log.read_text().splitlines() if " drains " in line]
        return [int(line.split("Process ")[1].split()[0]) for line in lines]

    until(lambda: len(started()) == 2)
    first, _ = started()
    os.kill(first, signal.SIGKILL)
    until(lambda: len(started()) == 3)

    headers = {"Authorization": f"Bearer {token_for('ann')}", "Prefer": "respond-async"}
    for _ in range(20):
        httpx.post(f"{serving.url}/api/v1/scores/increment", json={"points": 1}, headers=headers)
    until(lambda: list(UserScore.objects.values_list("score", flat=True)) == [20])

    assert serving.stop() == 0
    log = serving.log.read_text()
    assert all(f"Process {pid} has ended cleanly" in log for pid in started() if pid != first)
    assert "Traceback" not in log


def test_without_a_broker_the_command_says_what_it_needs(board: None) -> None:
    env = os.environ | {"DATABASE_URL": database_url()}

    ended = subprocess.run(INGEST, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "There is no broker: set BROKER_URL" in ended.stderr


def test_a_property_that_the_library_does_not_know_is_named(board: None) -> None:
    env = os.environ | {"DATABASE_URL": database_url(), "BROKER_URL": "kafka://host:9092?no.such.property=1"}

    ended = subprocess.run(INGEST, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert 'BROKER_URL: No such configuration property: "no.such.property"' in ended.stderr
    assert "Traceback" not in ended.stderr
