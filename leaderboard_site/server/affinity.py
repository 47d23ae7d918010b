"""CPU affinity: the threads of a process that hold Python's lock in turn stay on one CPU.

A second CPU is no use to them, because only one runs at a time. Without affinity, the kernel wakes each thread on an
idle CPU, and whenever the lock changes hands, the data of the previous thread must come from another CPU's cache: a
fifth of the cost of an increment. See docs/adr/0022.
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

# A socket in Linux's abstract namespace: the process that binds it has the CPU, and any end of the process frees it.
SEAT = "\0leaderboard-cpu-{}"
LOOK_EVERY_S = 5.0
CROWDED = 0.25  # of the time, the main thread was ready but did not run: worth a move
IDLE = 0.5  # of the time, a CPU was idle: worth moving to

# The CPUs that this process may use, as its parent set them. Empty on systems without CPU affinity (macOS).
allowed = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset()


def apply(*, wanted: bool) -> str:
    """Keeps this process to one CPU if CPU_AFFINITY and the machine allow it. Returns what is in force and why."""
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
        """Keeps the calling thread, and the threads that it starts from now on, on a free CPU, if there is one."""
        self._main = threading.get_native_id()
        if self._move_to(random.sample(sorted(allowed), len(allowed))):
            self._ended.clear()
            threading.Thread(target=self._watch, name="seat", daemon=True).start()

    def leave(self) -> None:
        """Frees the CPU for other processes of this service."""
        self._ended.set()
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def _watch(self) -> None:
        """Moves this process when its CPU is busy with other work (another container's): the kernel cannot move it."""
        try:
            before = _times(self._main)
            # At random times: processes that moved at the same moment would swap places.
            while not self._ended.wait(LOOK_EVERY_S * random.uniform(0.8, 1.2)):  # noqa: S311  no secret
                now = _times(self._main)
                if self._move_to(better_cpus(before, now)):
                    logger.info("Moved to CPU %s, which was idle", self.cpu)
                before = now
        except OSError as error:
            logger.info("Stays on CPU %s: cannot read how busy the CPUs are: %s", self.cpu, error)

    def _move_to(self, cpus: list[int]) -> bool:
        """Moves to the first of `cpus` that is free. Returns whether there was one."""
        for cpu in cpus:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(SEAT.format(cpu))
                self._keep_on(cpu)
            except OSError:  # another process has it, or the kernel refuses it
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
                pass  # the thread has ended


def better_cpus(before: Times, now: Times) -> list[int]:
    """The CPUs that were idle while this process waited for its own, the idlest first."""
    took = now.clock - before.clock
    if now.waited - before.waited < CROWDED * took:
        return []
    idle = {cpu: now.idle[cpu] - before.idle.get(cpu, 0) for cpu in now.idle if cpu in allowed}
    return sorted((cpu for cpu in idle if idle[cpu] > IDLE * took), key=lambda cpu: -idle[cpu])


def _times(thread: int) -> Times:
    """From proc(5): `schedstat` is in nanoseconds, `stat` in clock ticks; numbers four and five are idle time."""
    _, waited_ns, _ = Path(f"/proc/self/task/{thread}/schedstat").read_text().split()
    lines = [
        line.split() for line in Path("/proc/stat").read_text().splitlines() if line[:3] == "cpu" and line[3] != " "
    ]
    tick = os.sysconf("SC_CLK_TCK")
    idle = {int(name[3:]): (int(times[3]) + int(times[4])) / tick for name, *times in lines}
    return Times(time.monotonic(), int(waited_ns) / 1e9, idle)


def roam() -> None:
    """Lets the calling thread run on every CPU of `allowed`."""
    if allowed:
        os.sched_setaffinity(0, allowed)


def roaming(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: sync views have separate threads, whose longest work (hashing a password) does not hold the lock."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        roam()
        return get_response(request)

    return middleware


seat = Seat()
