"""Followers in several processes: one of them works at a time, and another goes on when it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any
from uuid import uuid4

import pytest
from django.db import connection
from prometheus_client import REGISTRY

from scores.exceptions import Damaged
from scores.followers import Follower as Followed
from scores.followers import Runner, Task
from scores.log import lease
from scores.log.head import log
from scores.log.lease import LEASE_S, RENEW_EVERY_S, Lease
from scores.models import Follower
from tests.conftest import database_url
from tests.polling import until
from tools.servers import ROOT

# Each step is a line with the time on the clock that all processes of a host share. The dedicated one is `manage.py follow`.
WORKER = """
import signal, sys, time, threading, django
django.setup()
from scores.log import lease
lease.LEASE_S = 4.0  # longer than a busy machine stands still
from django.core.management import call_command
from scores.followers import Follower, Task, followers, runners

def step():
    print(time.monotonic(), flush=True)
    return False

followers.append(Follower(sys.argv[1], lambda lease: [Task("step", step, 0.02)]))
print("stands by", flush=True)
if sys.argv[2] == "dedicated":
    call_command("follow")
else:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    runners.start(is_dedicated=False)
    ended.wait()
    runners.stop()
"""


class Worker:
    """A process, and the times of its steps so far."""

    def __init__(self, name: str, kind: str) -> None:
        env = os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
        command = [sys.executable, "-c", WORKER, name, kind]
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        self.steps: list[float] = []
        self.stands_by = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[self.process.stdout])
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            if line == "stands by\n":
                self.stands_by.set()
            else:
                self.steps.append(float(line))

    def works(self) -> None:
        """Return when it has done another step from now on."""
        done = len(self.steps)
        until(lambda: len(self.steps) > done)

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        self.process.wait(30)
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def name(board: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a follower that no other test has. Its lease outlasts a machine that stands still."""
    monkeypatch.setattr(lease, "LEASE_S", 60.0)
    name = f"test {uuid4()}"
    yield name
    Follower.objects.filter(name=name).delete()


@contextmanager
def workers(name: str, *kinds: str) -> Iterator[list[Worker]]:
    """The first of them works, and the others stand by."""
    started = [Worker(name, kinds[0])]
    try:
        started[0].works()
        started += [Worker(name, kind) for kind in kinds[1:]]
        for worker in started:
            assert worker.stands_by.wait(30)
        yield started
    finally:
        for worker in started:
            worker.end()


def test_one_works_and_another_takes_over_when_it_is_ousted_ends_or_stands_still(name: str) -> None:
    with workers(name, "worker", "dedicated", "worker") as (worker, dedicated, other):
        dedicated.works()
        until(lambda: time.monotonic() - worker.steps[-1] > 2 * RENEW_EVERY_S)
        dedicated.works()
        assert other.steps == []

        ousted = len(worker.steps)
        dedicated.end(signal.SIGTERM)
        until(lambda: other.steps or len(worker.steps) > ousted)
        first, second = (other, worker) if other.steps else (worker, other)
        before = len(second.steps)
        first.process.send_signal(signal.SIGSTOP)
        second.works()
        first.process.send_signal(signal.SIGCONT)
        second.works()
        second.end(signal.SIGTERM)
        first.works()

        later = [step for step in first.steps if step > dedicated.steps[-1]]
        assert dedicated.steps[-1] < later[0] < second.steps[before]
        assert not [step for step in later if second.steps[before] <= step <= second.steps[-1]]


# In this process


@pytest.fixture
def run(name: str) -> Iterator[Callable[..., Runner]]:
    """Runs these tasks."""
    runners: list[Runner] = []

    def start(*tasks: Task) -> Runner:
        runner = Runner(Followed(name, lambda lease: tasks), Lease(log, name, is_dedicated=False))
        runners.append(runner)
        runner.start()
        return runner

    yield start
    for runner in runners:
        runner.stop()


def test_a_task_goes_on_at_once_while_there_is_more_and_else_when_it_is_woken(
    name: str, run: Callable[..., Runner]
) -> None:
    left = [1, 2, 3]
    steps: list[int] = []

    def step() -> bool:
        steps.append(left.pop() if left else 0)
        return bool(left)

    runner = run(Task("step", step, 3600))
    until(lambda: len(steps) == 3 and held(name) == 1)  # it has begun, and knows whom to wake
    runner.wake()
    until(lambda: len(steps) == 4)

    assert steps == [3, 2, 1, 0]


def test_a_step_that_is_under_way_ends_before_the_lease_is_given_up(name: str, run: Callable[..., Runner]) -> None:
    began, may_end = threading.Event(), threading.Event()
    other = Lease(log, name, is_dedicated=False)

    def step() -> bool:
        began.set()
        may_end.wait()
        return True

    runner = run(Task("step", step, 0))
    assert began.wait(30)
    runner.stop(timeout_s=0)
    before = Follower.objects.get(name=name).lease_until
    until(lambda: Follower.objects.get(name=name).lease_until != before)
    assert not other.hold()

    assert held(name) == 1

    may_end.set()

    until(other.hold)
    until(lambda: held(name) == 0)


def held(name: str) -> float | None:
    """As /metrics says it."""
    return REGISTRY.get_sample_value("leaderboard_follower_held", {"follower": name})


def test_the_work_begins_anew_after_another_had_the_lease(name: str) -> None:
    terms: list[int] = []
    other = Lease(log, name, is_dedicated=True)

    def tasks(lease: Lease) -> list[Task]:
        return [Task("step", lambda: bool(terms.append(lease.term)), 3600)]  # type: ignore[func-returns-value]

    runner = Runner(Followed(name, tasks), Lease(log, name, is_dedicated=False))
    runner.start()
    try:
        until(lambda: terms == [1])
        other.hold()
        other.release()

        until(lambda: terms == [1, 2])
    finally:
        runner.stop()


def test_failures_are_told_once_and_tried_again(run: Callable[..., Runner], caplog: pytest.LogCaptureFixture) -> None:
    faults: list[Exception] = [Damaged("foreign"), Damaged("foreign"), ValueError("of this task")]
    steps: list[bool] = []

    def step() -> bool:
        if faults:
            raise faults.pop(0)
        steps.append(True)
        return False

    caplog.set_level("INFO", "scores.followers")
    run(Task("step", step, 0))
    until(lambda: steps)

    told = [record for record in caplog.records if record.threadName and record.threadName.endswith(": step")]
    levels = [record.levelname for record in told]
    assert levels == ["WARNING", "ERROR", "INFO"]
    assert told[1].exc_info


def test_an_outage_of_the_database_ends_the_work_and_it_begins_anew_afterwards(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", LEASE_S)
    steps: list[float] = []
    made: list[int] = []

    def step() -> bool:
        steps.append(time.monotonic())
        return False

    def tasks(lease: Lease) -> list[Task]:
        made.append(len(steps))
        return [Task("step", step, 0.01)]

    runner = Runner(Followed(name, tasks), Lease(log, name, is_dedicated=False))
    runner.start()
    try:
        until(lambda: steps)
        with renamed_table():
            until(lambda: steps and time.monotonic() - steps[-1] > RENEW_EVERY_S)
        until(lambda: len(made) >= 2)
        until(lambda: len(steps) > made[1])
    finally:
        runner.stop()

    told = [record.message for record in caplog.records if record.name == "scores.followers"]
    assert len([line for line in told if "waits for a store" in line]) == 1


@contextmanager
def renamed_table() -> Iterator[None]:
    """Every question about leases fails, as in a database that is away."""

    def execute(sql: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    execute("ALTER TABLE followers RENAME TO followers_away")
    try:
        yield
    finally:
        execute("ALTER TABLE followers_away RENAME TO followers")
