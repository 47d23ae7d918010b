"""A process keeps to a CPU of its own where there are several; what needs no lock goes where it likes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from leaderboard_site.server import affinity
from leaderboard_site.server.affinity import SEAT, Seat, Times, allowed, better_cpus, roaming
from tools.servers import Server

pytestmark = pytest.mark.writes_nothing

if len(allowed) < 2:
    pytest.skip("there is one CPU only", allow_module_level=True)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs a function in a thread, which may be kept on a CPU; seats are others than those of running servers and tests."""
    monkeypatch.setattr(affinity, "SEAT", SEAT + f"-of-{os.getpid()}")
    with ThreadPoolExecutor(1) as thread:
        yield lambda function, *args: thread.submit(function, *args).result(30)


@pytest.fixture
def seats() -> Iterator[list[Seat]]:
    seats = [Seat() for _ in range(len(allowed) + 1)]
    yield seats
    for seat in seats:
        seat.leave()


def mask() -> set[int]:
    return os.sched_getaffinity(0)


def test_a_process_keeps_to_one_cpu(elsewhere: Callable[..., Any], seats: list[Seat]) -> None:
    elsewhere(seats[0].take)

    assert elsewhere(mask) == {seats[0].cpu}
    assert mask() == allowed, "another thread is not concerned"


def test_each_process_has_its_own_and_the_last_one_none(elsewhere: Callable[..., Any], seats: list[Seat]) -> None:
    for seat in seats:
        elsewhere(affinity.roam)
        elsewhere(seat.take)

    assert {seat.cpu for seat in seats[:-1]} == allowed
    assert seats[-1].cpu is None
    assert elsewhere(mask) == allowed


def test_who_leaves_makes_room(elsewhere: Callable[..., Any], seats: list[Seat]) -> None:
    for seat in seats[:-1]:
        elsewhere(seat.take)
    seats[0].leave()

    elsewhere(seats[-1].take)

    assert seats[-1].cpu == seats[0].cpu


def test_threads_move_together(elsewhere: Callable[..., Any], seats: list[Seat]) -> None:
    elsewhere(seats[0].take)
    other = next(cpu for cpu in allowed if cpu != seats[0].cpu)

    assert elsewhere(seats[0]._move_to, [other])

    assert elsewhere(mask) == {seats[0].cpu} == {other}
    assert mask() == allowed


def test_a_sync_view_runs_anywhere(elsewhere: Callable[..., Any], seats: list[Seat], rf: RequestFactory) -> None:
    elsewhere(seats[0].take)
    seen: list[set[int]] = []

    def view(request: Any) -> HttpResponse:
        seen.append(mask())
        return HttpResponse()

    elsewhere(roaming(view), rf.get("/"))

    assert seen == [allowed]


def times(clock: float, waited: float, *idle: float) -> Times:
    return Times(clock, waited, dict(zip(sorted(allowed), idle, strict=False)))


@pytest.mark.parametrize(
    ("waited", "idle", "better"),
    [
        (1.0, (0.0, 5.0), False),  # not long
        (4.0, (0.0, 1.0), False),  # nothing is better
        (4.0, (0.0, 4.0), True),
    ],
)
def test_a_process_moves_when_it_waits_and_another_cpu_does_not(
    waited: float, idle: tuple[float, ...], better: bool
) -> None:
    second = sorted(allowed)[1]

    assert better_cpus(times(10, 1, 0, 0), times(15, 1 + waited, *idle)) == ([second] if better else [])


def test_the_times_are_those_of_proc() -> None:
    before = affinity._times(os.getpid())
    sum(range(10_000_000))
    now = affinity._times(os.getpid())

    assert now.clock > before.clock
    assert now.waited >= before.waited
    assert set(now.idle) >= allowed


WITH_SEATS_OF_ITS_OWN = """
from leaderboard_site.server import affinity, uvicorn_server
affinity.SEAT = "\\0test-{port}-{{}}"
uvicorn_server.main()
"""


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"CPU_AFFINITY": ""}, "on, this process keeps to CPU "),
        ({"CPU_AFFINITY": "off"}, "off, by CPU_AFFINITY"),
    ],
    ids=["a bare server", "off"],
)
def test_a_server_says_what_is_in_force(env: dict[str, str], told: str, server: Server, tmp_path: Path) -> None:
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "LOG_LEVEL": "INFO"} | env
    other = Server(tmp_path / "log", env, command=(sys.executable, "-c", WITH_SEATS_OF_ITS_OWN)).start()
    try:
        cpus = os.sched_getaffinity(other.process.pid)
    finally:
        other.stop()

    (line,) = [line for line in other.log.read_text().splitlines() if "CPU affinity: " in line]
    assert told in line
    assert len(cpus) == 1 if told.startswith("on") else cpus == allowed


@pytest.fixture
def seat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seat]:
    seat = Seat()
    monkeypatch.setattr(affinity, "seat", seat)
    yield seat
    seat.leave()


def test_it_is_off_where_every_cpu_is_taken(elsewhere: Callable[..., Any], seats: list[Seat], seat: Seat) -> None:
    for other in seats[:-1]:
        elsewhere(other.take)
        elsewhere(affinity.roam)

    assert elsewhere(partial(affinity.apply, wanted=True)) == "off, since every CPU has a process of this service"
