"""The world that gets hurt: stores, proxy, two workers and the load, from nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from leaderboard_site.local import DataDirectory
from tools.manage import make_tables
from tools.servers import Server, free_port
from tools.stores import PostgreSQL, Redis, WatchedRedis

from .load import Load
from .oracle import Oracle
from .proxy import Proxy

WORKERS = 2


@dataclass
class Service:
    """Two workers and their stores, all of which can be hurt."""

    server: Server
    postgresql: PostgreSQL
    redis: Redis
    proxy: Proxy
    signing_key: str

    def workers(self) -> list[int]:
        """The processes that serve: the children of the one that was started, but not multiprocessing's helper."""
        children = Path(f"/proc/{self.server.process.pid}/task/{self.server.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def all_workers_serve(self) -> bool:
        log = self.server.log.read_text()
        return len(pids := self.workers()) == WORKERS and all(f"Process {pid} is ready" in log for pid in pids)


@dataclass
class World(Service):
    """With who suffers it, and who watches."""

    load: Load
    oracle: Oracle


@contextmanager
def stores(folder: Path, redis_class: type[Redis] = Redis) -> Iterator[tuple[PostgreSQL, Redis]]:
    """Both running, and both ended again."""
    postgresql = PostgreSQL(DataDirectory(folder / "data"))
    redis = redis_class(folder / "redis")
    try:
        postgresql.boot()
        redis.boot()
        yield postgresql, redis
    finally:
        redis.end()
        postgresql.stop()


def environment(postgresql: PostgreSQL, redis_port: int, **more: str) -> dict[str, str]:
    """What a server on these stores needs."""
    key = secrets.token_urlsafe(48)
    return {
        "DJANGO_SETTINGS_MODULE": "leaderboard_site.settings",  # also where the tests, which have others, start it
        "DATABASE_URL": postgresql.url,
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "SECRET_KEY": key,
        "JWT_SIGNING_KEY": key,
        "ALLOWED_HOSTS": "127.0.0.1",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "console",
        "RATE_LIMIT": "off",  # the load is all from here
    } | more


@contextmanager
def service(
    folder: Path, settings: dict[str, str] | None = None, *, redis_class: type[Redis] = Redis
) -> Iterator[Service]:
    """All of it running, and all of it ended again."""
    with stores(folder, redis_class) as (postgresql, redis):
        proxy = Proxy(free_port(), redis.port)
        env = environment(postgresql, proxy.port, WORKERS=str(WORKERS)) | (settings or {})
        if isinstance(redis, WatchedRedis):
            env["REDIS_URL"] = redis.url  # the sentinels lead past the proxy
        server = Server(log=folder / "server.log", env=env)
        try:
            make_tables(env)
            server.start()
            yield Service(server, postgresql, redis, proxy, env["JWT_SIGNING_KEY"])
        finally:
            server.stop()
            proxy.close()


@contextmanager
def world(folder: Path, redis_class: type[Redis] = Redis) -> Iterator[World]:
    """A service under load."""
    with service(folder, redis_class=redis_class) as hurt:
        load = Load(hurt.server, hurt.signing_key)
        load.start()
        try:
            yield World(**vars(hurt), load=load, oracle=Oracle(hurt.redis.client))
        finally:
            load.stop()
