"""PgBouncer in transaction mode, between clients and a PostgreSQL of `tools.stores`."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from leaderboard_site.local.postgresql import PORT

from .programs import environment, program
from .servers import free_port
from .stores import PostgreSQL

# Few, so that every client soon meets the sessions of all others; a rebuild alone needs two.
POOL_SIZE = 3
CONFIGURATION = """
[databases]
* = host={sockets} port={socket} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
"""


class Pooler:
    """Its clients share `POOL_SIZE` sessions, and get any of them for each transaction."""

    def __init__(self, postgresql: PostgreSQL, folder: Path) -> None:
        self._postgresql = postgresql
        self._folder = folder
        self.port = free_port()

    def url(self, database: str = "leaderboard") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(database)}"

    def start(self) -> None:
        """On return it answers."""
        directory = self._postgresql.directory
        sockets = self._postgresql.sockets
        text = CONFIGURATION.format(sockets=sockets, socket=PORT, port=self.port, pool_size=POOL_SIZE)
        file = self._folder / "pgbouncer.ini"
        file.write_text(text)
        if os.geteuid() == 0:
            os.chown(file, *directory.unprivileged())  # it refuses to be root, as PostgreSQL does
        command = [*directory.unprivileged_prefix(), str(program("pgbouncer")), "--quiet", str(file)]
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
        until = time.monotonic() + 30
        while not self.answers():
            assert self.process.poll() is None, (self._folder / "pgbouncer.log").read_text()
            assert time.monotonic() < until, "pgbouncer does not answer"
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            self.open("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End it and every connection through it at once."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def open(self, database: str = "leaderboard") -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(database), autocommit=True, prepare_threshold=None, connect_timeout=2)


class Neighbours:
    """Other clients of the same database and user, which are not ready for what the service leaves in their sessions."""

    def __init__(self, pooler: Pooler, count: int = 2 * POOL_SIZE) -> None:
        self._pooler = pooler
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]
        self._ended = threading.Event()
        self.found: set[tuple[str, ...]] = set()  # their timeouts, as they see them
        self.transactions = 0

    def __enter__(self) -> Neighbours:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._ended.is_set():
            with suppress(psycopg.OperationalError), ExitStack() as stack:
                session = stack.enter_context(self._pooler.open())
                while not self._ended.wait(0.002):
                    row = session.execute(
                        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'), "
                        "current_setting('idle_in_transaction_session_timeout')"
                    ).fetchone()
                    assert row
                    self.found.add(row)
                    self.transactions += 1
