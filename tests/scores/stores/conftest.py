"""Redis of other kinds than the one that all tests share, and clients of this process that ask them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from django.test.utils import override_settings

from leaderboard_site.conf.redis import redis_of
from realtime.channel_layer import ChannelLayer
from scores import selectors
from scores.exceptions import RedisAway
from scores.projection.leaderboard import PageQuestion, leaderboard
from scores.selectors import Source
from scores.stores.redis import ALIASES, breaker, client, guarded, outage
from tests.settings import MORE_PATIENT
from tools.stores import Redis, WatchedRedis

Using = Callable[[str], AbstractContextManager[ChannelLayer]]


@contextmanager
def using(url: str) -> Iterator[ChannelLayer]:
    """The process asks the Redis at `url`, and so does the layer that is returned."""
    server = redis_of(url)
    caches = {"default": server.cache(0.1 * MORE_PATIENT), "bulk": server.cache(1.0 * MORE_PATIENT)}
    try:
        with override_settings(CACHES=caches):
            forget_clients()
            yield ChannelLayer(hosts=[server.channel_layer_host()])
            for alias in ALIASES:
                client(alias).connection_pool.disconnect()
    finally:
        forget_clients()
        client().connection_pool.disconnect()
        guarded(client().ping, probe=True)  # finds out what kind of server it is


def answers() -> bool:
    """Whether the process can use the Redis that it asks."""
    try:
        leaderboard.state()
    except RedisAway:
        return False
    return True


def source() -> Source:
    """The store that a read now comes from."""
    (page,) = selectors.reader.answer_questions([PageQuestion(10, 0)])
    return page.source


def forget_clients() -> None:
    client.cache_clear()
    breaker.succeeded()
    outage.end()


@pytest.fixture
def servers(board: None, tmp_path: Path) -> Iterator[Callable[..., Redis]]:
    """Starts servers: `servers(Redis)`."""
    with ExitStack() as stack:

        def make(kind: type[Redis] = Redis) -> Redis:
            server = kind(tmp_path / f"redis{len(list(tmp_path.iterdir()))}")
            server.boot()
            stack.callback(server.end)
            return server

        yield make


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedRedis]:
    watched = WatchedRedis(tmp_path_factory.mktemp("sentinels") / "redis")
    watched.boot()
    yield watched
    watched.end()


@pytest.fixture
def watched(sentinels: WatchedRedis, board: None) -> Iterator[WatchedRedis]:
    """A master with three sentinels, who answer."""
    yield sentinels
    for sentinel in sentinels.sentinels:
        sentinel.thaw()
