"""What is measured: a PostgreSQL that flushes, a Redis, and a server as in production, all on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.chaos.load import token
from tools.chaos.world import environment, stores
from tools.manage import apply_boards, make_tables
from tools.servers import UVICORN, Server
from tools.stores import PostgreSQL, Redis

from .clients import PROBE, request
from .usage import Usage, usage

CLOSED = "0"  # instead of an inode in /proc/net/tcp: no process has a descriptor of it; the kernel may still send


def port_in(address: str) -> int:
    """Of `0100007F:1F90`."""
    return int(address.partition(":")[2], 16)


@dataclass
class World:
    folder: Path
    postgresql: PostgreSQL
    redis: Redis
    env: dict[str, str]

    @contextmanager
    def serving(
        self, *, workers: int = 1, users: int = 0, boards: str = "", command: tuple[str, ...] = UVICORN
    ) -> Iterator[Served]:
        """A server on a board of `users`, with more `boards`, as a TOML file has them."""
        self.fill(users)
        if boards:
            self.make(boards)
        server = Server(log=self.folder / "server.log", env=self.env | {"WORKERS": str(workers)}, command=command)
        try:
            yield Served(self, server.start())
        finally:
            server.stop()

    def make(self, boards: str) -> None:
        """More boards, as a TOML file has them."""
        apply_boards(self.env, self.folder, boards)

    def ask(self, sql: str) -> list[Any]:
        with self.postgresql.open() as database:
            return database.execute(sql).fetchall()

    def fill(self, users: int) -> None:
        """The totals of users who scored long ago; their events are not missed by anything measured here."""
        self.redis.client.flushall()
        with self.postgresql.open() as database:
            database.execute("TRUNCATE leaderboards, user_scores, score_events, blocks, boards, standings CASCADE")
            database.execute(
                "INSERT INTO user_scores (user_id, score) "
                "SELECT 'user' || n, 1 + (n * 7919::bigint) %% 1000000 FROM generate_series(0, %s) n",
                [users - 1],
            )
            database.execute(
                "INSERT INTO leaderboards (name, epoch, seq, members) VALUES ('leaderboard', gen_random_uuid(), 0, %s)",
                [users],
            )
            database.execute("VACUUM (ANALYZE) user_scores")
            database.execute("CHECKPOINT")


@dataclass
class Served:
    world: World
    server: Server
    probe_total: int = 0
    _service_token: str = ""

    @property
    def port(self) -> int:
        return self.server.port

    def usage(self) -> Usage:
        return usage(self.server.process.pid)

    def holds(self, clients: set[int]) -> int:
        """How many connections the server has with these ports of clients, whatever their state."""
        held = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, peer, *_, inode = line.split()[:10]
            held += inode != CLOSED and port_in(local) == self.port and port_in(peer) in clients
        return held

    def increment(self, user_id: str, points: int = 10) -> bytes:
        """The request."""
        body = b'{"points":%d}' % points
        return request("POST", "/api/v1/scores/increment", self.port, token=self._token(user_id), body=body)

    def batch(self, body: bytes) -> bytes:
        """The request of a service."""
        if not self._service_token:
            self._service_token = token("bench", self.world.env["JWT_SIGNING_KEY"], scope="scores:batch")
        return request("POST", "/api/v1/scores/batch", self.port, token=self._service_token, body=body)

    def get(self, path: str, headers: Mapping[str, str] = {}) -> bytes:
        """The request."""
        return request("GET", f"/api/v1{path}", self.port, headers=headers)

    def probe(self, points: int = 1) -> bytes:
        """The request of the user whom watchers look for."""
        return self.increment(PROBE, points)

    def _token(self, user_id: str) -> str:
        return token(user_id, self.world.env["JWT_SIGNING_KEY"])


@contextmanager
def world(folder: Path) -> Iterator[World]:
    with stores(folder) as (postgresql, redis):
        env = environment(postgresql, redis.port)
        make_tables(env)
        yield World(folder, postgresql, redis, env)
