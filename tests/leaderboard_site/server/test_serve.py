"""The production server's start and end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from leaderboard_site.server.uvicorn_server import listeners
from tools.servers import ROOT, Server, free_port

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
        ({"EXPORT_KEY": "short"}, "EXPORT_KEY has 5 bytes; it needs at least 32."),
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


@pytest.mark.parametrize("unwanted", ["leaderboard_site.local", "daphne", "twisted", "autobahn", "pyarrow"])
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


ADDRESSES = {
    "::": {"127.0.0.1": True, "::1": True},
    "0.0.0.0": {"127.0.0.1": True, "::1": False},
    "::1": {"127.0.0.1": False, "::1": True},
}


@pytest.mark.uvicorn("listens on what it is told on its command line")
@pytest.mark.parametrize("host", ADDRESSES)
def test_it_listens_on(host: str, server: Server) -> None:
    for listener in listeners(host, 0):
        with listener:
            listener.listen()
            _, port = listener.getsockname()[:2]
            assert {address: answers(address, port) for address in ADDRESSES[host]} == ADDRESSES[host]


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_name_is_all_its_addresses() -> None:
    found = listeners("localhost", free_port())

    names = {listener.getsockname()[0] for listener in found}
    for listener in found:
        listener.close()
    assert names == {address[0] for *_, address in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}


@pytest.mark.uvicorn("believes no proxy")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_proxy_is_trusted_by_its_address_whichever_family_it_came_by(
    workers: str, server: Server, tmp_path: Path
) -> None:
    env = {
        "HOST": "::",
        "WORKERS": workers,
        "DATABASE_URL": server.env["DATABASE_URL"],
        "TRUSTED_PROXIES": "127.0.0.0/8",
        "READ_RATE_LIMIT": "3/minute",
    }
    both = Server(log=tmp_path / "log", env=env).start()

    def left(forwarded_for: str) -> int:
        headers = {"X-Forwarded-For": forwarded_for}
        return int(httpx.get(f"{both.url}/api/v1/leaderboard", headers=headers).headers["RateLimit"].split("r=")[1][0])

    remaining = [
        left(f"198.51.100.{workers}"),
        left(f"198.51.100.{workers}, ::ffff:127.0.0.2"),
        left(f"203.0.113.{workers}"),
    ]
    there = [answers(address, both.port) for address in ("127.0.0.1", "::1")]
    both.stop()

    assert remaining == [2, 1, 2]
    assert there == [True, True]


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
