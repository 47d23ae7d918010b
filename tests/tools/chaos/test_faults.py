"""One cycle of each fault of `make chaos`, which has more of them and the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import needs
from tools.chaos import streams
from tools.chaos.cycle import Line, run
from tools.chaos.faults import FAULTS, Fault
from tools.chaos.world import World, world
from tools.stores import RabbitMQ, Redis

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("tools.chaos")) as hurt:
        yield hurt


def marks_of(fault: Fault) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.uvicorn("has no workers")] if fault.name == "kill -9 of a worker" else []
    return [*marks, needs(fault.needs)] if fault.needs else marks


@pytest.mark.parametrize(
    "fault",
    # The others: test_sentinels.py.
    [pytest.param(f, id=f.name, marks=marks_of(f)) for f in FAULTS if f.redis_class is Redis],
)
def test_nothing_is_lost_doubled_or_wrongly_shown_by(fault: Fault, hurt: World) -> None:
    line = Line(fault.name)

    problems = run(fault, hurt, line)

    assert problems == []
    assert line.operations > 0


def test_nothing_of_a_queue_is_lost_or_doubled_by_a_kill(hurt: World, rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    hurt.load.pause()
    kills = [fault for fault in streams.FAULTS if "kill" in fault.name]
    lines = [streams.Line(fault.name) for fault in kills]

    with streams.streaming(tmp_path, hurt.postgresql, hurt.redis, rabbitmq, seed=1) as streaming:
        problems = [streams.run(kill, streaming, line, cycles=1) for kill, line in zip(kills, lines, strict=True)]
        problems.append(streams.end(streaming, lines[-1]))

    assert problems == [[], [], [], []]
    assert all(line.entries for line in lines)
