"""The process that follows the log: when it starts, waits, starts again and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scores.models import EngagementSockets
from tests.conftest import database_url
from tests.polling import until
from tools.servers import ROOT, UVICORN, Server

pytestmark = pytest.mark.writes_nothing

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
FOLLOW = (sys.executable, "manage.py", "follow")


@pytest.fixture
def serving(board: None, tmp_path: Path) -> Iterator[Server]:
    """A server with its follow process, both at an address and on CPUs of their own choice."""
    env = {
        "DATABASE_URL": database_url(),
        "FOLLOW": "on",
        "CPU_AFFINITY": "on",
        "LOG_LEVEL": "INFO",
        "METRICS_TOKEN": "m" * 16,
    }
    serving = Server(log=tmp_path / "log", env=env, command=UVICORN).start()
    yield serving
    serving.stop()


def follow_processes(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    pids = [int(pid) for threads in children for pid in threads.read_text().split()]
    return [pid for pid in pids if b"\0follow\0" in command_line(pid)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # has just ended
        return b""


def wait_for_child(server: Server, *, other_than: int = 0) -> int:
    """The child, once it follows the log."""
    found: list[int] = []

    def follows() -> bool:
        log = server.log.read_text()
        found[:] = [pid for pid in follow_processes(server) if f"Process {pid} follows the log" in log]
        return bool(found) and found[0] != other_than

    until(follows)
    return found[0]


@linux
def test_it_is_started_again_when_it_dies_and_ends_with_the_server(serving: Server) -> None:
    first = wait_for_child(serving)
    os.kill(first, signal.SIGKILL)
    second = wait_for_child(serving, other_than=first)

    assert follow_processes(serving) == [second]
    assert os.sched_getaffinity(second) == os.sched_getaffinity(0)
    assert metrics_of(second)
    until(EngagementSockets.objects.exists)  # it knows how to count them

    assert serving.stop() == 0
    log = serving.log.read_text()
    assert "manage.py follow ended with status -9" in log
    assert f"Process {second} has ended cleanly" in log
    assert "Traceback" not in log


@linux
def test_it_ends_when_the_server_is_killed(serving: Server) -> None:
    child = wait_for_child(serving)

    serving.stop(signal.SIGKILL)

    until(lambda: f"Process {child} has ended cleanly" in serving.log.read_text())


@linux
def test_it_runs_elsewhere_if_the_environment_says_so(server: Server) -> None:
    assert server.env["FOLLOW"] == "off"
    assert follow_processes(server) == []


def metrics_of(pid: int) -> list[Path]:
    """Its files in the folder whose files /metrics adds up."""
    environment = dict(
        variable.split("=", 1) for variable in Path(f"/proc/{pid}/environ").read_text().split("\0") if variable
    )
    return list(Path(environment["PROMETHEUS_MULTIPROC_DIR"]).glob(f"*_{pid}.db"))


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ("postgresql://127.0.0.1:1/none", "Waits for PostgreSQL, which does not answer"),
        (None, "Waits for the migrations that the database lacks"),
    ],
)
def test_it_waits_for_the_database_and_says_so_once(
    database: str | None, told: str, board: None, tmp_path: Path
) -> None:
    env = os.environ | {"DATABASE_URL": database or database_url("postgres"), "LOG_LEVEL": "INFO"}
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(FOLLOW, cwd=ROOT, env=env, stdout=output, stderr=output)
    until(lambda: told in log.read_text())

    process.terminate()

    assert process.wait(30) == 0
    assert log.read_text().count("Waits for") == 1
    assert f"Process {process.pid} has ended cleanly" in log.read_text()
