"""What /metrics says of a server with two workers."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from django.db import connection, transaction
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from scores.boards import definitions
from scores.boards.documents import parse
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import BoardStanding
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.conftest import by_another_thread
from tools.servers import Server

TOKEN = "a token of some length"


@pytest.fixture(scope="module")
def _watched(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "DATABASE_URL": _server.env["DATABASE_URL"],
        "WORKERS": "2",
        "METRICS_TOKEN": TOKEN,
        "READ_RATE_LIMIT": "1000/minute",
    }
    watched = Server(log=tmp_path_factory.mktemp("watched") / "log", env=env).start()
    yield watched
    watched.stop()


@pytest.fixture
def watched(_watched: Server, board: None) -> Server:
    """Two workers that say what they count."""
    return _watched


def ask(server: Server, token: str = TOKEN) -> httpx.Response:
    return httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {token}"}, verify=False, timeout=30)


def told(server: Server) -> dict[str, float]:
    """Each sample by its name, or by its name and the value of its label."""
    samples: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(ask(server).text):
        for sample in family.samples:
            samples["/".join([sample.name, *sample.labels.values()])] = sample.value
    return samples


def workers_of(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]


def test_nobody_may_ask_without_the_token(watched: Server) -> None:
    assert ask(watched, "another token").status_code == 401
    assert httpx.get(f"{watched.url}/metrics", verify=False, timeout=30).status_code == 401


def test_nobody_may_ask_where_there_is_no_token(server: Server) -> None:
    assert ask(server).status_code == 404
    assert ask(server, "none").status_code == 404


def test_increments_are_counted_by_what_became_of_them(watched: Server, token_for: TokenFor) -> None:
    before = told(watched)
    headers = {"Authorization": f"Bearer {token_for('ann')}"}
    with httpx.Client(base_url=f"{watched.url}/api/v1", headers=headers, verify=False, timeout=30) as client:
        for _ in range(10):
            client.post("/scores/increment", json={"points": 1})
        for points in (1, 1, 2):
            client.post("/scores/increment", json={"points": points}, headers={"Idempotency-Key": "a"})

    after = told(watched)

    rise = {name: after[name] - before[name] for name in after}
    assert rise["leaderboard_increments_total/recorded"] == 11
    assert rise["leaderboard_increments_total/replayed"] == 1
    assert rise["leaderboard_increments_total/idempotency_key_reused"] == 1
    assert rise["leaderboard_commit_seconds_count"] == 11
    assert rise["leaderboard_commit_changes_sum"] == 11


@pytest.mark.uvicorn("is one process")
def test_sockets_and_frames_of_all_workers_are_counted(watched: Server, token_for: TokenFor) -> None:
    before = told(watched)
    sockets = ExitStack()
    for _ in range(6):
        sockets.enter_context(connect(watched.ws_url))
    headers = {"Authorization": f"Bearer {token_for('bea')}"}

    httpx.post(f"{watched.url}/api/v1/scores/increment", json={"points": 1}, headers=headers, verify=False, timeout=30)

    def is_told() -> bool:
        after = told(watched)
        is_sent = after["leaderboard_frames_sent_total"] > before["leaderboard_frames_sent_total"]
        return is_sent and after["leaderboard_sockets"] == 6 and after["leaderboard_sockets_cap"] == 40_000

    until(is_told)
    sockets.close()


@pytest.mark.uvicorn("has no follow process")
def test_each_board_has_its_position_in_each_store(watched: Server) -> None:
    gone = definitions.create(parse({"name": "gone", "fold": "sum"}))
    definitions.create(parse({"name": "ever", "fold": "sum"}))
    writer.record([Change(Kind.INCREMENT, "ann", 5)])
    names = [f"{board}/{store}" for board in ("ever", "gone") for store in ("redis", "standings")]

    until(lambda: [told(watched)[f"leaderboard_board_seq/{name}"] for name in names] == [1] * 4)
    assert [told(watched)[f"leaderboard_board_lag/{name}"] for name in names] == [0] * 4

    # Whoever moves the standings waits for this transaction.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # the writer's is a second
        list(BoardStanding.objects.filter(board=gone.pk).select_for_update())
        by_another_thread(lambda: writer.record([Change(Kind.INCREMENT, "ann", 5)]))
        until(lambda: told(watched)["leaderboard_board_lag/gone/standings"] == 1)

    definitions.delete("gone")
    until(lambda: not any("gone" in name for name in told(watched)))
    assert told(watched)["leaderboard_board_seq/ever/standings"] == 2


@pytest.mark.uvicorn("is one process")
def test_a_killed_worker_has_no_sockets(watched: Server) -> None:
    sockets = ExitStack()
    for _ in range(20):
        sockets.enter_context(connect(watched.ws_url))
    deadline = time.monotonic() + 30
    while told(watched)["leaderboard_sockets"] < 20:
        assert time.monotonic() < deadline

    for worker in workers_of(watched):
        os.kill(worker, signal.SIGKILL)

    while True:
        assert time.monotonic() < deadline
        try:
            if told(watched)["leaderboard_sockets"] == 0:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    sockets.close()


def test_reads_and_stores_are_told(watched: Server) -> None:
    before = told(watched)
    answers = [httpx.get(f"{watched.url}/api/v1/leaderboard", verify=False, timeout=30) for _ in range(4)]
    httpx.get(f"{watched.url}/api/v1/leaderboard", headers={"If-None-Match": "*"}, verify=False, timeout=30)

    after = told(watched)

    assert len({answer.status_code for answer in answers}) == 1
    sources = ("leaderboard_reads_total/redis", "leaderboard_reads_total/database")
    assert sum(after[source] - before[source] for source in sources) >= 5
    assert after["leaderboard_reads_not_modified_total"] == before["leaderboard_reads_not_modified_total"] + 1
    assert after["leaderboard_limits_counted_total/redis"] >= before["leaderboard_limits_counted_total/redis"] + 5
    assert after["leaderboard_redis_away"] == after["leaderboard_database_away"] == 0
    assert after["leaderboard_store_seconds_count/redis"] > 0
    assert after["leaderboard_store_seconds_count/database"] > 0
