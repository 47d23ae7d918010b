"""A PostgreSQL and a Redis to be hurt: processes of this run, on data of this run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis as RedisClient
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from leaderboard_site.local import DataDirectory
from leaderboard_site.local import postgresql as local_postgresql
from leaderboard_site.local import redis as local_redis

from .servers import free_port

STANDBY = "standby"


def silently(line: str) -> None:
    """The stores have something to say at each start, of which there are many."""


class PostgreSQL(local_postgresql.PostgreSQL):
    """The one that `make run` starts, elsewhere."""

    def boot(self) -> None:
        self.start(silently)

    def kill(self) -> None:
        """End it as a power cut would: nothing is flushed, and the next start recovers."""
        os.kill(self.postmaster, signal.SIGKILL)

    def boot_as_standby(self) -> None:
        """As if it followed another server that is gone: it answers reads and refuses writes."""
        (self.home / "standby.signal").touch()
        self.boot()

    def follow(self, primary: PostgreSQL) -> None:
        """Start as a standby of `primary`, from a copy of it, and let `primary` commit nothing that is not here too."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self.home, *self.directory.unprivileged())
        source = f"host={primary.sockets} user=postgres application_name={STANDBY}"
        made = self._run("pg_basebackup", "-D", self.home, "-d", source, "-R", "-X", "stream", "-c", "fast")
        assert made.returncode == 0, made.stdout
        (self.home / f"{local_postgresql.SOCKET}.lock").unlink(missing_ok=True)  # of its source, as these settings are
        with (self.home / "postgresql.auto.conf").open("a") as file:
            file.write("synchronous_standby_names = ''\ndefault_transaction_read_only = off\n")
        self.boot()
        with primary.open() as database:
            database.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
            database.execute("SELECT pg_reload_conf()")
            until = time.monotonic() + 30
            while not database.execute("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'").fetchall():
                assert time.monotonic() < until, "the standby does not follow"
                time.sleep(0.02)

    def promote(self) -> None:
        """Let a standby write, on a timeline of its own."""
        ended = self._run("pg_ctl", "promote", "-D", self.home, "-w")
        assert ended.returncode == 0, ended.stdout

    @property
    def timeline(self) -> int:
        with self.open() as database:
            row = database.execute("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)").fetchone()
        assert row
        return int(row[0], 16)

    def save_to(self, folder: Path) -> None:
        """Keep all of it, while it does not run."""
        shutil.copytree(self.home, folder)

    def restore_from(self, folder: Path) -> None:
        """Put it back as it was saved, while it does not run."""
        owner = self.home.stat()
        shutil.rmtree(self.home)
        shutil.copytree(folder, self.home)
        for path in [self.home, *self.home.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid)

    def freeze(self) -> None:
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @property
    def postmaster(self) -> int:
        return int((self.home / "postmaster.pid").read_text().split("\n", 1)[0])

    def _processes(self) -> list[int]:
        children = Path(f"/proc/{self.postmaster}/task/{self.postmaster}/children").read_text()
        return [self.postmaster, *map(int, children.split())]

    def open(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True, connect_timeout=2)


class Redis:
    """A redis-server on a port of loopback, which loads what it once saved when it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.port = free_port()
        self._program = local_redis.Redis(DataDirectory(folder)).program()
        # Its own line to the store, past the proxy, that waits for nothing.
        self.client = RedisClient(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=5)

    def boot(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--logfile", str(self.folder / "log")]
        self.process = subprocess.Popen(command, start_new_session=True)
        until = time.monotonic() + 15
        while time.monotonic() < until:
            try:
                self.client.ping()
                return
            except RedisError:
                time.sleep(0.01)
        raise AssertionError("Redis does not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def forget_saved(self) -> None:
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)
