"""Boards are exactly the fold of the log: random histories, compared with an oracle in each store at its own position."""

from __future__ import annotations

import pytest
from redis import Redis

from tools.chaos.differential import Run


@pytest.mark.parametrize("seed", range(3))
def test_boards_are_the_fold_of_the_log(seed: int, redis: Redis) -> None:
    run = Run(seed, redis).run(150)

    assert run.compared > 500
