"""A DATABASE_URL with two hosts: the service follows whichever takes writes, and loses nothing on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from leaderboard_site.local import DataDirectory
from leaderboard_site.local.postgresql import DATABASE, PORT
from tests.polling import until
from tools.chaos.load import token
from tools.chaos.world import environment
from tools.manage import make_tables
from tools.servers import Server
from tools.stores import PostgreSQL, Redis

pytestmark = pytest.mark.slow


@dataclass
class Scene:
    first: PostgreSQL
    second: PostgreSQL
    server: Server
    token: str
    total: int = 0  # what was acknowledged

    def score(self) -> bool:
        """Whether a point was acknowledged, with the total that all acknowledged ones have."""
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": f"key{self.total}"}
        answer = httpx.post(
            f"{self.server.url}/api/v1/scores/increment", json={"points": 1}, headers=headers, timeout=30, verify=False
        )
        if answer.status_code == 503:
            return False
        self.total += 1
        assert answer.json() == {"success": True, "newScore": self.total}, "an acknowledged point was lost or doubled"
        return True

    def shows(self) -> bool:
        """Whether the board has every acknowledged point, and Redis has it."""
        answer = httpx.get(f"{self.server.url}/api/v1/leaderboard", timeout=30, verify=False)
        scores = [entry["score"] for entry in answer.json().get("leaderboard", [])]
        return scores == [self.total] and answer.headers["X-Leaderboard-Source"] == "redis"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """The second follows the first synchronously; the service knows both."""
    first, second = (PostgreSQL(DataDirectory(tmp_path / name), {"fsync": "off"}) for name in ("first", "second"))
    redis = Redis(tmp_path / "redis")
    server: Server | None = None
    try:
        redis.boot()
        first.boot()
        second.follow(first)
        hosts = quote(f"{first.sockets},{second.sockets}", safe=",")
        url = f"postgresql://postgres@/{DATABASE}?host={hosts}&port={PORT}&target_session_attrs=read-write"
        env = environment(first, redis.port) | {"DATABASE_URL": url}
        make_tables(env)
        server = Server(log=tmp_path / "log", env=env).start()
        yield Scene(first, second, server, token("ann", env["JWT_SIGNING_KEY"]))
    finally:
        if server is not None:
            server.stop()
        for store in (first, second):
            store.stop()
        redis.kill()
        redis.client.close()


def test_the_service_goes_where_writes_are_taken(scene: Scene) -> None:
    for _ in range(20):
        assert scene.score()

    scene.first.kill()
    scene.second.promote()
    until(scene.score)
    until(scene.shows)

    # And back, from a server that goes on to answer questions on connections that are kept.
    scene.first.follow(scene.second)
    for _ in range(20):
        assert scene.score()
    with scene.second.open() as database:
        database.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        database.execute("SELECT pg_reload_conf()")
    scene.first.promote()
    until(scene.score)
    for _ in range(20):
        assert scene.score()
    until(scene.shows)
