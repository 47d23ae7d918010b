"""`make run`, as a newcomer meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from leaderboard_site.local import DataDirectory, Stores
from tools.servers import ROOT, free_port

pytestmark = pytest.mark.slow

RUN = (sys.executable, "-m", "leaderboard_site.local.run")


def environment(data: Path, port: int) -> dict[str, str]:
    """A newcomer's: nothing of the tests' own."""
    return {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "DATA_DIR": str(data), "PORT": str(port)}


@dataclass
class Run:
    data: Path
    port: int
    process: subprocess.Popen[str]
    told: str  # from the start to the words about Ctrl-C

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paste(self) -> int:
        """The new score that the one line to be pasted answers; again while it got no token, and so counted nothing."""
        (line,) = re.findall(r"^  (curl .*-o /dev/null; curl .*)$", self.told, re.MULTILINE)
        answer = answered(line, again_after=401)
        assert answer.keys() == {"success", "newScore"}
        assert isinstance(answer["newScore"], int)
        return answer["newScore"]

    def end(self, number: int) -> tuple[int, str]:
        """Signal all that a terminal would, wait, and return the status and the last words."""
        os.killpg(self.process.pid, number)
        last, _ = self.process.communicate(timeout=30)
        return self.process.returncode, last


def start(data: Path, command: tuple[str, ...] = RUN) -> Run:
    port = free_port()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(data, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    told = ""
    for line in process.stdout:
        told += line
        if "Ctrl-C" in line:
            return Run(data, port, process, told)
    raise AssertionError(f"it ended with {process.wait()}:\n{told}")


def answered(line: str, *, again_after: int) -> dict[str, object]:
    """What a line for the shell prints; once more where a machine without a CPU to spare had no answer in time."""
    for _ in range(10):
        printed = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False).stdout
        answer: dict[str, object] = json.loads(printed or "{}")
        if answer.get("status") != again_after:
            return answer
    raise AssertionError(printed)


def stores_answer(data: Path) -> bool:
    stores = Stores(DataDirectory(data), print)
    return stores.postgresql.answers() or stores.redis.answers()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = start(tmp_path_factory.mktemp("running") / "data")
    yield run
    run.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the tests that start and end it: making a database takes longest."""
    return tmp_path_factory.mktemp("data") / "data"


def manage(run: Run, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *arguments]
    env = environment(run.data, run.port)
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def lets_in(run: Run, told: str) -> bool:
    """Whether the admin takes the credentials in `told`."""
    (credentials,) = re.findall(r"username (\S+), password (\S+)", told)
    with httpx.Client(base_url=run.url, headers={"Origin": run.url}) as client:
        token = client.get("/admin/login/").cookies["csrftoken"]
        form = {"username": credentials[0], "password": credentials[1], "csrfmiddlewaretoken": token}
        return client.post("/admin/login/?next=/admin/", data=form).status_code == 302


def test_it_tells_the_address_when_it_answers(running: Run) -> None:
    assert f"{running.url}/" in running.told
    assert httpx.get(f"{running.url}/healthz/live").status_code == 200


def test_the_line_to_paste_scores_every_time(running: Run) -> None:
    first = running.paste()
    second = running.paste()

    assert second == first + 10


def test_the_line_to_register_answers_with_a_token(running: Run) -> None:
    (line,) = re.findall(r"^  (curl .*/register .*)$", running.told.split("In one line")[0], re.MULTILINE)
    line = line.replace('"ada"', '"grace"')

    answer = answered(line, again_after=503)

    headers = {"Authorization": f"Bearer {answer['access']}"}
    scored = httpx.post(f"{running.url}/api/v1/scores/increment", headers=headers, json={"points": 1})
    assert scored.json() == {"success": True, "newScore": 1}


def test_the_first_administrator_can_log_in(running: Run) -> None:
    assert lets_in(running, running.told)


def test_superuser_makes_an_administrator_and_changes_the_password(running: Run) -> None:
    made = manage(running, "superuser", "--username=grace.hopper")
    changed = manage(running, "superuser", "--username=grace.hopper", "--password=cobol")

    assert made.stdout.startswith("New administrator")
    assert changed.stdout == "Changed administrator: username grace.hopper, password cobol\n"
    assert lets_in(running, changed.stdout)
    assert not lets_in(running, made.stdout)


def test_superuser_refuses_a_name_nobody_could_log_in_with(running: Run) -> None:
    refused = manage(running, "superuser", "--username=no spaces")

    assert refused.returncode == 1
    assert "--username 'no spaces'" in refused.stderr


def test_a_second_run_on_the_same_data_says_where_the_first_is(running: Run) -> None:
    env = environment(running.data, running.port)
    second = subprocess.run(RUN, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert second.returncode == 1
    assert f"already running at {running.url} (process {running.process.pid})" in second.stderr
    assert "DATA_DIR=" in second.stderr
    assert httpx.get(f"{running.url}/healthz/live").status_code == 200


def test_a_taken_port_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment(tmp_path / "data", port)
        ended = subprocess.run(RUN, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in ended.stderr
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_it_started(number: signal.Signals, data: Path) -> None:
    run = start(data)

    status, last = run.end(number)

    assert status == 0
    assert "Traceback" not in last
    assert "ERROR" not in last
    assert not stores_answer(data)


@pytest.mark.skipif(not (ROOT / ".venv" / ".run").exists(), reason="not the environment that make makes")
def test_ctrl_c_on_make_stops_everything(data: Path) -> None:
    run = start(data, ("make", "run"))

    status, last = run.end(signal.SIGINT)

    assert status == -signal.SIGINT
    assert "Traceback" not in last
    assert "***" not in last
    assert not stores_answer(data)


@pytest.mark.parametrize("until", ["PostgreSQL 18: first", "PostgreSQL 18: starting", "Redis"])
def test_a_signal_while_it_starts_stops_what_runs_by_then(until: str, tmp_path: Path) -> None:
    if until == "PostgreSQL 18: starting":
        made = Stores(DataDirectory(tmp_path / "data"), print)
        made.join(redis=False)
        made.leave()
    env = environment(tmp_path / "data", free_port())
    command = subprocess.Popen(RUN, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout
    while not command.stdout.readline().startswith(until):
        assert command.poll() is None

    command.send_signal(signal.SIGINT)
    _, complaints = command.communicate(timeout=60)

    assert (command.returncode, complaints) == (0, "")
    assert not stores_answer(tmp_path / "data")


def test_after_a_kill_of_everything_the_next_run_has_the_scores(data: Path) -> None:
    first = start(data)
    before = first.paste()
    numbers = [
        (data / "postgres" / "postmaster.pid").read_text().split()[0],
        (data / "redis" / "redis.pid").read_text(),
    ]
    first.end(signal.SIGKILL)
    for number in numbers:
        os.kill(int(number), signal.SIGKILL)
    while stores_answer(data):
        time.sleep(0.01)

    second = start(data)
    after = second.paste()
    second.end(signal.SIGTERM)

    assert after == before + 10
    assert "New administrator" not in second.told
