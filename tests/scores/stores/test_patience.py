"""How long Redis may take: a request waits for a moment only, work that nobody waits for has time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from redis import Redis

from scores.exceptions import RedisAway
from scores.projection.leaderboard import leaderboard
from scores.stores.redis import BULK, client
from tests.settings import MORE_PATIENT


@contextmanager
def redis_asleep(seconds: float) -> Iterator[None]:
    with Redis.from_url(settings.REDIS_URL) as client:
        sleep = threading.Thread(target=client.execute_command, args=("DEBUG", "SLEEP", seconds))
        sleep.start()
        time.sleep(0.05)  # until it sleeps
        yield
        sleep.join()


def test_a_request_does_not_wait_for_a_redis_that_is_busy(copy: Redis) -> None:
    with redis_asleep(0.8), pytest.raises(RedisAway):
        leaderboard.state()


@pytest.mark.parametrize("first", ["default", "bulk"])
def test_a_comparison_does(first: str, copy: Redis) -> None:
    client(first).ping()  # whoever comes first must not set the patience of the other

    with redis_asleep(0.8):
        totals = leaderboard.totals_of(["ann"], alias=BULK)

    assert totals.scores == [None]
    assert client().connection_pool.connection_kwargs["socket_timeout"] == 0.1 * MORE_PATIENT
