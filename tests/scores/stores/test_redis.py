"""What is sent to Redis, and what counts as no answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from django.conf import settings
from redis import Redis

from scores.projection.leaderboard import leaderboard
from scores.stores.redis import breaker


@pytest.fixture
def forgetful(redis: Redis) -> Iterator[None]:
    """A Redis that forgets its scripts all the time."""
    done = threading.Event()

    def forget() -> None:
        with Redis.from_url(settings.REDIS_URL) as other:
            while not done.is_set():
                other.script_flush()

    thread = threading.Thread(target=forget)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.usefixtures("forgetful")
def test_a_redis_that_forgets_scripts_is_not_taken_for_one_that_is_away() -> None:
    for _ in range(2_000):
        leaderboard.state()  # raises RedisAway

    assert not breaker.is_open
