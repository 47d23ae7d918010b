"""A database that is put back to an earlier moment is another log, whatever its numbers say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.polling import until
from tools.chaos.load import token
from tools.chaos.world import Service, service

pytestmark = pytest.mark.slow


@pytest.fixture
def hurt(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path) as hurt:
        yield hurt


def post(hurt: Service, user_id: str, points: int) -> httpx.Response:
    """Score, once however often it is asked for."""
    headers = {
        "Authorization": f"Bearer {token(user_id, hurt.signing_key)}",
        "Idempotency-Key": f"{user_id}-{points}",
    }
    url = f"{hurt.server.url}/api/v1/scores/increment"
    return httpx.post(url, json={"points": points}, headers=headers, verify=False, timeout=30)


def read(hurt: Service) -> tuple[str, Any]:
    answer = httpx.get(f"{hurt.server.url}/api/v1/leaderboard", verify=False, timeout=30)
    return answer.headers["X-Leaderboard-Source"], [
        (entry["userId"], entry["score"]) for entry in answer.json()["leaderboard"]
    ]


def test_a_database_put_back_to_an_earlier_moment_is_noticed_and_shown(hurt: Service, tmp_path: Path) -> None:
    post(hurt, "ann", 10)
    hurt.postgresql.stop()
    hurt.postgresql.save_to(tmp_path / "backup")
    hurt.postgresql.boot()
    until(lambda: post(hurt, "bob", 20).status_code == 200)
    until(lambda: read(hurt) == ("redis", [("bob", 20), ("ann", 10)]))

    with connect(hurt.server.ws_url) as socket:
        before = json.loads(socket.recv(timeout=30))
        while len(before["leaderboard"]) < 2:  # a frame may be an interval behind what is read
            before = json.loads(socket.recv(timeout=30))
        hurt.postgresql.stop()
        hurt.postgresql.restore_from(tmp_path / "backup")
        hurt.postgresql.boot()

        frame = before
        while frame["epoch"] == before["epoch"]:
            frame = json.loads(socket.recv(timeout=30))

    assert frame["leaderboard"] == [{"userId": "ann", "score": 10}]
    assert frame["seq"] < before["seq"]
    until(lambda: read(hurt) == ("redis", [("ann", 10)]))
    assert post(hurt, "bob", 1).json() == {"success": True, "newScore": 1}
    until(lambda: read(hurt) == ("redis", [("ann", 10), ("bob", 1)]))
