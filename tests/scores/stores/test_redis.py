"""What is sent to Redis, and what counts as no answer."""

from __future__ import annotations

import pytest

from scores.projection.leaderboard import leaderboard
from scores.stores.redis import breaker


@pytest.mark.usefixtures("forgetful")
def test_a_redis_that_forgets_scripts_is_not_taken_for_one_that_is_away() -> None:
    for _ in range(2_000):
        leaderboard.state()  # raises RedisAway

    assert not breaker.is_open
