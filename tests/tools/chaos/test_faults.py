"""One cycle of each fault of `make chaos`, which has more of them and the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.programs import needs
from tools.chaos.cycle import Line, run
from tools.chaos.faults import FAULTS, Fault
from tools.chaos.world import World, world
from tools.stores import Redis

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
