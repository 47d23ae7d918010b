"""A RabbitMQ that only this machine can reach: loopback ports of its own, a password, no plugins, bounded memory.

Where it is installed: it comes with no wheel, and a trial of the board does without.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import programs
from .directory import DataDirectory, StoreError

START_S = 60
STOP_S = 60
# Queues are kept below the name of their node. It need not be unique, since each node has an epmd to itself.
NODE = "leaderboard@localhost"
# Below the ports that systems take for outgoing connections: such a connection would hold the port at the next start,
# and a client that knocks there while the broker is down could be connected to itself.
PORTS = range(15_000, 32_000)
DEBIANS = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # not /usr/sbin's, which insists on root or rabbitmq
UNPACKED = Path(__file__).resolve().parent.parent.parent / ".data" / "tools"  # by .ci/programs

CONFIGURATION = """\
listeners.tcp.local = 127.0.0.1:{amqp}
default_user = guest
default_pass = {password}
log.file = false
log.console = true
log.console.level = warning
log.console.use_colors = off
# Publishers wait beyond it. An idle broker has half of it.
vm_memory_high_watermark.absolute = 256MiB
disk_free_limit.absolute = 50MB
# What quorum queues have in memory as well until the next file, by default 512 MB.
raft.wal_max_size_bytes = 16777216
"""
# One scheduler, which sleeps when it has nothing to do; and other nodes are listened for on loopback, too.
ERLANG = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
# In the background, so that it has no parent that must wait for it. Its number is written by the shell, or a kill of this
# process in between would leave a server without one.
LAUNCH = 'log=$1 pid=$2; shift 2; "$@" </dev/null >"$log" 2>&1 & echo $! >"$pid"'


class RabbitMQ:
    def __init__(self, directory: DataDirectory) -> None:
        self.directory = directory
        self.home = directory.path / "rabbitmq"
        self.log = self.home / "server.log"
        # The server holds a flock on it as long as it lives, so its number is never another program's.
        self._pid_file = self.home / "server.pid"
        self._access_file = self.home / "access.json"

    @property
    def url(self) -> str:
        """Known after the first start. It stays the same, unless another program has taken one of the ports meanwhile."""
        access = self._access()
        return f"amqp://guest:{access['password']}@127.0.0.1:{access['amqp']}/"

    def start(self, say: Callable[[str], None]) -> None:
        """Starts the server unless it runs. On return, the server answers."""
        if self.answers():
            return
        if not self.runs():  # one that does may be at its start still, begun by a process that was killed
            program = self.program()
            say(f"RabbitMQ: starting on {self.directory}/rabbitmq …")
            self._launch(program)
        until = time.monotonic() + START_S
        while not self.answers():
            if not (runs := self.runs()) or time.monotonic() > until:
                if not runs:
                    self._end_epmd()
                raise StoreError(f"RabbitMQ does not start. The end of {self.log}:\n{programs.end_of(self.log)}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether the server offers a connection."""
        if not self.runs():  # the port may be another program's by now
            return False
        try:
            with socket.create_connection(("127.0.0.1", self._access()["amqp"]), timeout=10) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"  # a method, which is connection.start
        except OSError:
            return False

    def runs(self) -> bool:
        """Whether there is a process, even if it does not answer yet or any more."""
        try:
            descriptor = os.open(self._pid_file, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not see each other
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def stop(self) -> None:
        """Stops the server, if it runs, and waits until it has ended. Raises `StoreError` if it does not end."""
        until = time.monotonic() + STOP_S
        while self.runs():
            if time.monotonic() > until:
                raise StoreError(f"RabbitMQ does not stop. The end of {self.log}:\n{programs.end_of(self.log)}")
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            # Erlang drops a signal that comes too early in its start, so it is told again.
            programs.wait_for(lambda: not self.runs(), 1)
        self._end_epmd()

    @property
    def pid(self) -> int:
        return int(self._pid_file.read_text())

    def program(self) -> Path:
        for program in (DEBIANS, UNPACKED / DEBIANS.relative_to("/")):
            if program.exists():
                return program
        if found := shutil.which("rabbitmq-server"):
            return Path(found)
        raise StoreError(
            "There is no RabbitMQ here. Install it (Debian, Ubuntu: apt install --no-install-recommends rabbitmq-server; "
            "macOS: brew install rabbitmq), or set BROKER_URL."
        )

    def _launch(self, program: Path) -> None:
        if not self.home.exists():
            self.home.mkdir(mode=0o700)
            self._hand_over(self.home)
        self._end_epmd()  # of a server that was killed: it has a port
        access = self._choose_access()
        self._write("rabbitmq.conf", CONFIGURATION.format(**access))
        self._write("enabled_plugins", "[].\n")
        self.log.unlink(missing_ok=True)
        descriptor = os.open(self._pid_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._hand_over(self._pid_file)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            launched = programs.run(
                [
                    *self.directory.unprivileged_prefix(),
                    *("sh", "-c", LAUNCH, "sh", self.log, self._pid_file, program),
                ],
                environment=self._environment(program, access),
                inherited=[descriptor],
            )
        finally:
            os.close(descriptor)
        if launched.returncode:
            raise StoreError(f"RabbitMQ does not start:\n{launched.stdout}")

    def _environment(self, program: Path, access: dict[str, Any]) -> dict[str, str]:
        nothing = str(self.home / "none")  # in the place of what the machine may have below /etc/rabbitmq
        environment = {
            "HOME": str(self.home),  # where Erlang keeps its cookie
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_MNESIA_BASE": str(self.home / "data"),
            "RABBITMQ_LOG_BASE": str(self.home),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq"),
            "RABBITMQ_CONFIG_FILES": nothing,
            "RABBITMQ_ADVANCED_CONFIG_FILE": nothing,
            "RABBITMQ_CONF_ENV_FILE": nothing,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(access["distribution"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            # The script becomes the server, as under systemd; else it would stay above it, and have its number.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_CRASH_DUMP": str(self.home / "erl_crash.dump"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(access["epmd"]),
        }
        if program.is_relative_to(UNPACKED):
            folders = [UNPACKED / "usr" / "lib" / "erlang" / "bin", *os.environ["PATH"].split(os.pathsep)]
            libraries = [*UNPACKED.glob("usr/lib/*-linux-gnu"), *UNPACKED.glob("lib/*-linux-gnu")]
            environment["PATH"] = os.pathsep.join(map(str, folders))
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
        return environment

    def _end_epmd(self) -> None:
        """Ends what knows the ports of Erlang's nodes, here of one. It is a daemon, and does not end with the server."""
        if self._access_file.exists():
            programs.wait_for(self._epmd_obeys, 30)

    def _epmd_obeys(self) -> bool:
        """Asks it to end, which it refuses until it has noticed that its node is gone."""
        try:
            with socket.create_connection(("127.0.0.1", self._access()["epmd"]), timeout=1) as connection:
                connection.sendall(b"\x00\x01k")
                return connection.recv(2) != b"NO"
        except OSError:
            return True

    def _access(self) -> dict[str, Any]:
        access: dict[str, Any] = json.loads(self._access_file.read_text())
        return access

    def _choose_access(self) -> dict[str, Any]:
        """The ports and the password of the last start, without the ports that now are another program's."""
        access: dict[str, Any] = {"password": secrets.token_urlsafe(24)}
        if self._access_file.exists():
            access = self._access()
        for name in ("amqp", "distribution", "epmd"):
            while name not in access or not _is_free(access[name]):
                access[name] = secrets.choice([port for port in PORTS if port not in access.values()])
        self._write(self._access_file.name, json.dumps(access, indent=2) + "\n")
        return access

    def _write(self, name: str, text: str) -> None:
        new = self.home / f"{name}.new"
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(text)
        self._hand_over(new)
        new.replace(self.home / name)

    def _hand_over(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, *self.directory.unprivileged())


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
