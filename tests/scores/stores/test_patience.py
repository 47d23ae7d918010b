"""How long Redis may take: a request waits for a moment only, work that nobody waits for has time."""

from __future__ import annotations

import pytest
from redis import Redis

from scores.exceptions import RedisAway
from scores.projection.leaderboard import leaderboard
from scores.stores.redis import BULK, client
from tests.scores.conftest import stopped
from tests.settings import MORE_PATIENT


def test_a_request_does_not_wait_for_a_redis_that_is_busy(copy: Redis) -> None:
    with stopped(copy), pytest.raises(RedisAway):
        leaderboard.state()


@pytest.mark.parametrize("first", ["default", "bulk"])
def test_a_comparison_does(first: str, copy: Redis) -> None:
    client(first).ping()  # whoever comes first must not set the patience of the other

    with stopped(copy, for_s=0.8):
        totals = leaderboard.totals_of(["ann"], alias=BULK)

    assert totals.scores == [None]
    assert client().connection_pool.connection_kwargs["socket_timeout"] == 0.1 * MORE_PATIENT
