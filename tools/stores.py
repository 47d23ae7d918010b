"""A PostgreSQL, a Redis and a RabbitMQ to be hurt: processes of this run, on data of this run."""

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
from redis.sentinel import Sentinel as SentinelClient

from leaderboard_site.local import DataDirectory
from leaderboard_site.local import postgresql as local_postgresql
from leaderboard_site.local import rabbitmq as local_rabbitmq
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
        os.kill(self.postmaster, signal.SIGSTOP)  # first, so that it starts no session that is not in the list
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


class RabbitMQ(local_rabbitmq.RabbitMQ):
    """The one that `make run BROKER=on` starts, elsewhere."""

    def boot(self) -> None:
        self.start(silently)

    def kill(self) -> None:
        """kill -9. What it confirmed is there at the next boot, at the same address."""
        os.kill(self.pid, signal.SIGKILL)
        while self.runs():
            time.sleep(0.01)

    def forget(self) -> None:
        """Drop all queues and messages, while it does not run."""
        shutil.rmtree(self.home / "data", ignore_errors=True)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Redis:
    """A redis-server on a port of loopback, which loads what it once saved when it starts."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.port = free_port()
        self.options = options
        self._program = local_redis.Redis(DataDirectory(folder)).program()
        # Its own line to the store, past the proxy, that waits for nothing.
        self.client = RedisClient(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=5)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def boot(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--logfile", str(self.folder / "log"), *self.options]
        self._start(command)

    def _start(self, command: list[str]) -> None:
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

    def end(self) -> None:
        self.kill()
        self.client.close()

    def forget_saved(self) -> None:
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class ClusterNode(Redis):
    """A redis-server in cluster mode, which has no slots at first."""

    SLOTS = 16_384
    BUS = 10_000  # nodes talk to each other on a port that is so much higher

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        while self.port > 65_535 - self.BUS:
            self.port = free_port()
        self.client = RedisClient(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=5)

    def take(self, first: int = 0, last: int = SLOTS - 1) -> None:
        """Serve these slots. A node that has just started does so after two seconds."""
        self._command("ADDSLOTS", *range(first, last + 1))

    def meet(self, other: ClusterNode) -> None:
        """Make one cluster of both."""
        self._command("MEET", "127.0.0.1", other.port)

    def _command(self, *words: str | int) -> None:
        client: Any = self.client  # whose stubs do not type this one
        client.execute_command("CLUSTER", *words)


class Sentinel(Redis):
    """One of several that watch `master`, known to each other from the start: to find each other takes them seconds."""

    NAME = "Board"

    def boot(self) -> None:
        self._start([self._program, str(self.folder / "sentinel.conf"), "--sentinel"])

    def configure(self, master: Redis, replica: Redis, others: list[Sentinel]) -> None:
        told = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"logfile {self.folder / 'log'}",
            f"sentinel myid {self.identity}",
            f"sentinel monitor {self.NAME} 127.0.0.1 {master.port} 2",
            f"sentinel down-after-milliseconds {self.NAME} 500",
            f"sentinel failover-timeout {self.NAME} 1000",
            f"sentinel known-replica {self.NAME} 127.0.0.1 {replica.port}",
            *(f"sentinel known-sentinel {self.NAME} 127.0.0.1 {other.port} {other.identity}" for other in others),
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(told) + "\n")

    @property
    def identity(self) -> str:
        return f"{self.port:040x}"


class WatchedRedis(Redis):
    """A master and a replica, watched by three sentinels. What is done to it is done to the master of the moment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.client.close()
        self.servers = [Redis(folder / name) for name in ("one", "two")]
        self.sentinels = [Sentinel(folder / f"sentinel{number}") for number in range(3)]
        self._hurt: Redis | None = None
        sentinels: Any = SentinelClient(  # type: ignore[no-untyped-call]  # redis-py's own
            [("127.0.0.1", sentinel.port) for sentinel in self.sentinels],
            sentinel_kwargs={"socket_timeout": 1},
        )
        self.client = sentinels.master_for(Sentinel.NAME, retry=Retry(NoBackoff(), 0), socket_timeout=1)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/0?master={Sentinel.NAME}"

    @property
    def master(self) -> Redis:
        """As the sentinels name it."""
        sentinel: Any = self.sentinels[0].client  # whose stubs do not type this one
        reply = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", Sentinel.NAME)
        (master,) = (server for server in self.servers if server.port == int(reply[1]))
        return master

    def boot(self) -> None:
        first, second = self.servers
        first.boot()
        second.options = ("--replicaof", "127.0.0.1", str(first.port))
        second.boot()
        for sentinel in self.sentinels:
            sentinel.configure(first, second, [other for other in self.sentinels if other is not sentinel])
        for sentinel in self.sentinels:
            sentinel.boot()
        self.wait_until_guarded()

    def wait_until_guarded(self) -> None:
        """Return when a replica follows the master, and the sentinels know that it could take its place."""
        until = time.monotonic() + 60  # they look at a replica every ten seconds
        while time.monotonic() < until:
            clients: list[Any] = [sentinel.client for sentinel in self.sentinels]
            states = [client.sentinel_slaves(Sentinel.NAME) for client in clients]
            if all(len(s) == 1 and s[0]["flags"] == "slave" and s[0]["master-link-status"] == "ok" for s in states):
                return
            time.sleep(0.02)
        raise AssertionError(f"no replica follows the master: {states}")

    def kill(self) -> None:
        """kill -9 of the master."""
        self._hurt = self.master
        self._hurt.kill()

    def freeze(self) -> None:
        """SIGSTOP of the master."""
        self._hurt = self.master
        self._hurt.freeze()

    def recover(self) -> None:
        """Make a replica of what was the master before `kill` or `freeze`, and return when it could be it again."""
        if self._hurt is not None:
            if self._hurt.process.poll() is None:
                self._hurt.thaw()
            else:
                self._hurt.options = ("--replicaof", "127.0.0.1", str(self.master.port))
                self._hurt.boot()
            self._hurt = None
        self.wait_until_guarded()

    def end(self) -> None:
        for process in (*self.sentinels, *self.servers):
            process.end()
        self.client.close()
