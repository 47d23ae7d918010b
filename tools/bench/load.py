"""Increments and reads: as fast as answers come, or at a fixed rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle

from .clients import Caller, connect


@dataclass
class Answers:
    """What came back within the time that counts."""

    took_s: float = 0.0
    delays_s: list[float] = field(default_factory=list)
    statuses: dict[bytes, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.delays_s) / self.took_s

    @property
    def failed(self) -> int:
        return sum(number for status, number in self.statuses.items() if status not in (b"200", b"304"))

    def take(self, caller: Caller, answer: bytes) -> None:
        status = answer[9:12]
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.delays_s.append(time.perf_counter() - caller.asked_at)


async def as_fast_as_it_goes(
    port: int, requests: Callable[[], bytes], *, clients: int = 64, seconds: float = 5.0, warm_s: float = 1.0
) -> Answers:
    """`clients` connections, each of which asks again as soon as it was answered."""
    answers, ended = Answers(), False

    def answered(caller: Caller, answer: bytes) -> None:
        answers.take(caller, answer)
        if not ended:
            caller.ask(requests())

    callers = [await connect(port, answered) for _ in range(clients)]
    for caller in callers:
        caller.ask(requests())
    await asyncio.sleep(warm_s)
    answers.delays_s.clear()
    answers.statuses.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    answers.took_s, ended = time.perf_counter() - started, True
    for caller in callers:
        caller.transport.close()
    return answers


async def at_a_rate(
    port: int,
    requests: Callable[[], bytes],
    *,
    rate: float,
    clients: int = 64,
    seconds: float = 5.0,
    ended: asyncio.Event | None = None,
) -> Answers:
    """`rate` requests a second whatever the answers do, until `ended` if that comes first; delays count from when one was due."""
    answers = Answers()
    free: asyncio.Queue[Caller] = asyncio.Queue()

    def answered(caller: Caller, answer: bytes) -> None:
        answers.take(caller, answer)
        free.put_nowait(caller)

    callers = [await connect(port, answered) for _ in range(clients)]
    for caller in callers:
        free.put_nowait(caller)
    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        if ended is not None and ended.is_set():
            break
        due = started + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        (await free.get()).ask(requests(), due)
    for _ in callers:
        await free.get()
    answers.took_s = time.perf_counter() - started
    for caller in callers:
        caller.transport.close()
    return answers


def in_turn(requests: list[bytes]) -> Callable[[], bytes]:
    turn: Iterator[bytes] = cycle(requests)
    return lambda: next(turn)
