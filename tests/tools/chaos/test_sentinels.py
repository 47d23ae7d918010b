"""One failover of each kind of `make chaos`: the master that the sentinels name is gone, and another takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.chaos.cycle import Line, run
from tools.chaos.faults import FAULTS
from tools.chaos.world import world
from tools.stores import WatchedRedis

pytestmark = pytest.mark.slow


def test_a_service_follows_the_sentinels(tmp_path: Path) -> None:
    (fault,) = (fault for fault in FAULTS if fault.redis_class is WatchedRedis and "kill" in fault.name)
    line = Line(fault.name)

    with world(tmp_path, WatchedRedis) as hurt:
        problems = run(fault, hurt, line)

    assert problems == []
    assert line.operations > 0
