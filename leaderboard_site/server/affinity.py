"""CPU affinity: the threads of a process that hold Python's lock in turn stay on one CPU.

A second CPU is no use to them, since only one runs at a time. Left alone, the kernel wakes each on whichever CPU is idle, and
at every turn of the lock what the one has touched must come from the other's cache: a fifth of an increment's cost. See
docs/adr/0022.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from django.http import HttpRequest
from django.http.response import HttpResponseBase

logger = logging.getLogger(__name__)

# In Linux's abstract namespace: taken by whoever binds it, and free when its process has ended, however it did.
SEAT = "\0leaderboard-cpu-{}"
LOOK_EVERY_S = 5.0
CROWDED = 0.25  # of the time, ready to run and not running
IDLE = 0.5  # of the time, of a CPU that is worth moving to

# Where the main thread may run by the will of whoever started us. Empty where there is no such thing (macOS).
allowed = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset()


def apply(*, wanted: bool) -> str:
    """Keep this process to one CPU where CPU_AFFINITY and the machine allow it; the answer says what is in force and why."""
    if not wanted:
        return "off, by CPU_AFFINITY"
    if len(allowed) < 2:
        return "off, since this process has one CPU anyway" if allowed else "off, since only Linux has it"
    seat.take()
    if seat.cpu is None:
        return "off, since every CPU has a process of this service"
    return f"on, this process keeps to CPU {seat.cpu}"


class Times(NamedTuple):
    """Seconds up to now: on the clock, that the main thread waited for its CPU, and that each CPU was idle."""

    clock: float
    waited: float
    idle: Mapping[int, float]


class Seat:
    """A CPU for this process, and for no other process of this service on this host."""

    def __init__(self) -> None:
        self.cpu: int | None = None
        self._claim: socket.socket | None = None
        self._main = 0
        self._ended = threading.Event()

    def take(self) -> None:
        """Keep the calling thread, and those that it starts from now on, on a CPU that is free; if one is."""
        self._main = threading.get_native_id()
        if self._move_to(random.sample(sorted(allowed), len(allowed))):
            self._ended.clear()
            threading.Thread(target=self._watch, name="seat", daemon=True).start()

    def leave(self) -> None:
        """Let other processes have the CPU."""
        self._ended.set()
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def _watch(self) -> None:
        """Somebody else may work on this CPU as well, another container of this service say, and the kernel cannot move us."""
        try:
            before = _times(self._main)
            # Not all of them in the same moment: they would change places.
            while not self._ended.wait(LOOK_EVERY_S * random.uniform(0.8, 1.2)):  # noqa: S311  no secret
                now = _times(self._main)
                if self._move_to(better_cpus(before, now)):
                    logger.info("Moved to CPU %s, which had time", self.cpu)
                before = now
        except OSError as error:
            logger.info("Stays on CPU %s, since nobody says how busy it is: %s", self.cpu, error)

    def _move_to(self, cpus: list[int]) -> bool:
        """Move to the first of `cpus` that nobody has."""
        for cpu in cpus:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(SEAT.format(cpu))
                self._keep_on(cpu)
            except OSError:  # taken, or not to be had
                claim.close()
                continue
            if self._claim is not None:
                self._claim.close()
            self._claim, self.cpu = claim, cpu
            return True
        return False

    def _keep_on(self, cpu: int) -> None:
        threads = {self._main} if self.cpu is None else {int(thread) for thread in os.listdir("/proc/self/task")}
        for thread in threads:
            try:
                if self.cpu is None or os.sched_getaffinity(thread) == {self.cpu}:
                    os.sched_setaffinity(thread, {cpu})
            except ProcessLookupError:
                pass  # has ended meanwhile


def better_cpus(before: Times, now: Times) -> list[int]:
    """The CPUs that had time while this process had to wait for its own, the idlest first."""
    took = now.clock - before.clock
    if now.waited - before.waited < CROWDED * took:
        return []
    idle = {cpu: now.idle[cpu] - before.idle.get(cpu, 0) for cpu in now.idle if cpu in allowed}
    return sorted((cpu for cpu in idle if idle[cpu] > IDLE * took), key=lambda cpu: -idle[cpu])


def _times(thread: int) -> Times:
    """By proc(5): `schedstat` in nanoseconds, and `stat` in clock ticks, of which the fourth and fifth are idle ones."""
    _, waited_ns, _ = Path(f"/proc/self/task/{thread}/schedstat").read_text().split()
    lines = [
        line.split() for line in Path("/proc/stat").read_text().splitlines() if line[:3] == "cpu" and line[3] != " "
    ]
    tick = os.sysconf("SC_CLK_TCK")
    idle = {int(name[3:]): (int(times[3]) + int(times[4])) / tick for name, *times in lines}
    return Times(time.monotonic(), int(waited_ns) / 1e9, idle)


def roam() -> None:
    """Let the calling thread run anywhere."""
    if allowed:
        os.sched_setaffinity(0, allowed)


def roaming(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: sync views have threads of their own, and much of what those do (hashing a password) wants no lock."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        roam()
        return get_response(request)

    return middleware


seat = Seat()
