"""A server as its users meet it: a process of its own, on real sockets."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UVICORN = (sys.executable, "-m", "leaderboard_site.server")
DAPHNE = (sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "leaderboard_site.asgi:application")
SERVERS = {"uvicorn": UVICORN, "daphne": DAPHNE}
CHOSEN = "TESTS_SERVER"  # the variable that hands `--server` on


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """Starts with the environment of the tests plus `env`; what it logs goes to `log`."""

    log: Path
    env: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = field(default_factory=lambda: SERVERS[os.environ.get(CHOSEN, "uvicorn")])
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/leaderboard/"

    def start(self) -> Server:
        command = [part.format(port=self.port) for part in self.command]
        self.env = os.environ | {"PORT": str(self.port)} | self.env
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.answers():
                return self
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def answers(self) -> bool:
        """Whether it is there. Asked by hand: httpx reads the world's certificates each time, which takes 25 ms of a CPU."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/healthz/live")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def pause(self) -> None:
        """Let it do nothing at all until `resume`, and return when it does nothing."""
        self.process.send_signal(signal.SIGSTOP)
        # WNOWAIT: the end of a server that just died is left to `Popen`.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.resume()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()  # or it would go on mending what later tests break
            self.process.wait()
            raise
