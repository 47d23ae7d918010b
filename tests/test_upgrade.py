"""Version 0.2.0 serves beside this one, on the same stores, as docs/upgrading.md promises."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scores.boards import definitions
from scores.boards.documents import parse
from scores.log.audit import wrong_totals
from scores.log.head import log
from tests.conftest import TokenFor
from tests.polling import until
from tools.servers import ROOT, Server

VERSION_0_2_0 = "605cbca"
STUDIO = "events:void scores:write:any"

pytestmark = [pytest.mark.slow, pytest.mark.uvicorn("starts the production server of 0.2.0")]


@pytest.fixture
def old(server: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a server of 0.2.0."""
    packed = subprocess.run(["git", "archive", VERSION_0_2_0], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip("this clone has no history, and so no version 0.2.0")
    subprocess.run(["tar", "-x", "-C", tmp_path], input=packed.stdout, check=True)
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "PYTHONPATH": str(tmp_path)}
    command = ("env", "-C", str(tmp_path), *server.command)
    process = Server(log=tmp_path / "log", env=env, command=command).start()
    try:
        with httpx.Client(base_url=f"{process.url}/api/v1", verify=False, timeout=30) as client:
            assert client.get("/boards").status_code == 404  # it is the old one
            yield client
    finally:
        process.stop()
    told = (tmp_path / "log").read_text()
    assert "Traceback" not in told, told


def test_it_skips_what_it_does_not_know_and_its_points_count_on_boards(
    old: httpx.Client, server: Server, token_for: TokenFor
) -> None:
    definitions.create(parse({"name": "ever", "fold": "sum"}))
    definitions.create(parse({"name": "laps", "fold": "best", "stream": True}))
    studio = {"Authorization": f"Bearer {token_for('studio', scope=STUDIO)}"}

    def board(name: str) -> list[tuple[str, int]]:
        return [(row["userId"], row["score"]) for row in new.get(f"/boards/{name}").json().get("leaderboard", [])]

    def default(client: httpx.Client) -> list[tuple[str, int]]:
        return [(row["userId"], row["score"]) for row in client.get("/leaderboard").json()["leaderboard"]]

    with httpx.Client(base_url=f"{server.url}/api/v1", verify=False, timeout=30) as new:
        for client, user_id in ((old, "ann"), (new, "bob"), (old, "ann"), (new, "bob")):
            answer = client.post(f"/users/{user_id}/scores/increment", json={"points": 5}, headers=studio)
            assert answer.status_code == 200, answer.text
        assert new.post("/boards/laps/users/cid/scores", json={"score": 7}, headers=studio).status_code == 200
        assert new.post("/events/1/void", headers=studio).status_code == 200
        assert old.post("/users/bob/scores/increment", json={"points": 1}, headers=studio).json()["newScore"] == 11

        until(lambda: board("ever") == [("bob", 11), ("ann", 5)])
        until(lambda: board("laps") == [("cid", 7)])
        until(lambda: default(new) == [("bob", 11), ("ann", 5)])
        until(lambda: default(old) == [("bob", 11), ("ann", 5)])
    assert wrong_totals(log) == []
