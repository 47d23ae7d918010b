"""The production server's start and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tools.servers import ROOT, Server

pytestmark = pytest.mark.writes_nothing

KEY = "k" * 48
GOOD = {
    "SECRET_KEY": KEY,
    "JWT_SIGNING_KEY": KEY,
    "ALLOWED_HOSTS": "scores.example.org",
    "DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}


def start_with(**env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "leaderboard_site.server"]
    env = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1"} | env
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_every_missing_variable_is_named_at_once() -> None:
    ended = start_with()

    assert ended.returncode == 1
    assert [name for name in GOOD if f"{name} is not set." not in ended.stderr] == []
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"JWT_SIGNING_KEY": "short"}, "JWT_SIGNING_KEY has 5 bytes; it needs at least 32."),
        ({"PORT": "http"}, "PORT='http': expected a whole number from 1 to 65535."),
        ({"TRUSTED_PROXIES": "10.0.0.1,nginx"}, "TRUSTED_PROXIES: 'nginx' is not an address or network such as"),
        ({"PUBLIC_URL": "http://scores.example.org"}, "PUBLIC_URL begins with http://, where browsers send no cookie"),
        ({"ALLOWED_HOSTS": "https://host,host"}, "ALLOWED_HOSTS: 'https://host' is not a host name such as"),
        ({"DATABASE_URL": "sqlite:///scores"}, "DATABASE_URL: expected postgresql://"),
        ({"DATABASE_URL": "postgresql://ada:a%zz@db/scores"}, "DATABASE_URL: invalid percent-encoded token."),
    ],
)
def test_a_wrong_value_is_named_and_nothing_else(wrong: dict[str, str], told: str) -> None:
    ended = start_with(**GOOD | wrong)

    assert ended.returncode == 1
    assert told in ended.stderr
    assert ended.stderr.count("\n  - ") == 1


@pytest.mark.parametrize("unwanted", ["leaderboard_site.local", "daphne", "twisted", "autobahn"])
def test_production_imports_nothing_local_and_no_other_server(unwanted: str) -> None:
    program = "import sys\nfrom leaderboard_site.server import uvicorn_server\nuvicorn_server.set_up()\nimport leaderboard_site.asgi\n"
    program += f"print([name for name in sys.modules if f'{{name}}.'.startswith('{unwanted}.')])"

    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=ROOT, env=os.environ | GOOD, capture_output=True, text=True, check=True)

    assert loaded.stdout == "[]\n"


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, "1"), (signal.SIGINT, "1"), (signal.SIGTERM, "2")])
def test_a_signal_ends_it_in_order(number: signal.Signals, workers: str, server: Server, tmp_path: Path) -> None:
    env = {"WORKERS": workers, "DATABASE_URL": server.env["DATABASE_URL"]}
    another = Server(log=tmp_path / "log", env=env).start()

    assert another.stop(number) == 0
    assert "Traceback" not in another.log.read_text()


def test_a_port_that_is_taken_ends_it(server: Server) -> None:
    ended = start_with(**server.env)

    assert ended.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {server.port}: Address already in use" in ended.stderr


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads Linux's /proc")
def test_it_may_open_as_many_sockets_as_its_user(server: Server) -> None:
    limits = Path("/proc", str(server.process.pid), "limits").read_text()

    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    assert soft == hard


@pytest.mark.uvicorn("names itself")
def test_it_does_not_name_its_software(server: Server) -> None:
    assert "server" not in httpx.get(f"{server.url}/healthz/live").headers


def test_metrics_without_a_folder_to_keep_them_in_are_a_sentence() -> None:
    # No file may have a byte, as on a disk that is full or read-only. A shell sets it: nothing else of this process runs so.
    command = ["bash", "-c", 'ulimit -f 0; exec "$0" -m leaderboard_site.server', sys.executable]
    env = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "METRICS_TOKEN": "m" * 16} | GOOD

    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert ended.stderr.startswith("METRICS_TOKEN needs a temporary folder that can be written to: ")
    assert ended.stderr.count("\n") == 1
