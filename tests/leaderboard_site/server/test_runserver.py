"""The development server, which is daphne: the whole way works there too."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import httpx
from websockets.sync.client import connect

from tests.conftest import TokenFor
from tools.servers import Server

RUNSERVER = (sys.executable, "manage.py", "runserver", "--noreload", "{port}")


def test_a_score_reaches_a_socket_through_daphne(server: Server, token_for: TokenFor, tmp_path: Path) -> None:
    env = {"DATABASE_URL": server.env["DATABASE_URL"]}
    daphne = Server(log=tmp_path / "log", env=env, command=RUNSERVER).start()

    with connect(daphne.ws_url) as socket:
        assert json.loads(socket.recv(30))["leaderboard"] == []
        headers = {"Authorization": f"Bearer {token_for('ann')}"}
        answer = httpx.post(f"{daphne.url}/api/v1/scores/increment", json={"points": 7}, headers=headers, timeout=30)
        while (frame := json.loads(socket.recv(30)))["seq"] < 1:
            pass  # the empty board again, with an age: the machine stood still

    assert answer.json() == {"success": True, "newScore": 7}
    assert answer.headers["Server"] == "daphne"
    assert frame["leaderboard"] == [{"userId": "ann", "score": 7}]
    daphne.stop(signal.SIGINT)
