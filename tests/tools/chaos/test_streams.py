"""One kill of each part that a queue goes through. `make chaos` has fifty of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.chaos import streams
from tools.stores import RabbitMQ

pytestmark = pytest.mark.slow


def test_nothing_of_a_queue_is_lost_or_doubled_by_a_kill(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    kills = [fault for fault in streams.FAULTS if "kill" in fault.name]
    lines = [streams.Line(fault.name) for fault in kills]

    with streams.world(tmp_path, rabbitmq, seed=1) as world:
        problems = [streams.run(kill, world, line, cycles=1) for kill, line in zip(kills, lines, strict=True)]
        problems.append(streams.end(world, lines[-1]))

    assert problems == [[], [], [], [], []]
    assert all(line.entries and line.published for line in lines)
