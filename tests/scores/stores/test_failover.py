"""A primary that moved: connections that were made before lead to the former one, which refuses writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from scores import services, signals
from scores.projection.leaderboard import leaderboard
from scores.selectors import Source
from scores.stores import presence
from scores.stores.redis import BULK, client
from tests.polling import until
from tools.chaos.proxy import Proxy
from tools.servers import free_port
from tools.stores import Redis

from .conftest import answers, source, using


@pytest.fixture
def proxy(servers: Callable[..., Redis]) -> Iterator[Callable[[Redis], Proxy]]:
    proxies: list[Proxy] = []

    def make(to: Redis) -> Proxy:
        proxies.append(Proxy(free_port(), to.port))
        return proxies[-1]

    yield make
    for made in proxies:
        made.close()


def score(total: int) -> None:
    services.correct(user_id="ann", total=total, actor="test", reason="start")


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_a_process_leaves_a_primary_that_became_a_replica(
    servers: Callable[..., Redis], proxy: Callable[[Redis], Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    former, new = servers(), servers()
    forwarder = proxy(former)
    score(20)
    with using(f"redis://127.0.0.1:{forwarder.port}/0"), caplog.at_level(logging.INFO), moves() as told:
        leaderboard.rebuild()
        follow(new, former)
        client(BULK).ping()
        assert source() is Source.REDIS

        forwarder.lead_to(new.port)
        new.client.replicaof("no", "one")
        follow(former, new)
        score(30)
        until(answers)
        leaderboard.rebuild(force=True)

        assert source() is Source.REDIS
        assert new.client.zscore("leaderboard", "ann") == 30
        assert client(BULK).get("leaderboard:rebuilt") == new.client.get("leaderboard:rebuilt")
        assert told == ["moved"]
    assert (said(caplog, "Redis does not answer"), said(caplog, "Redis answers again")) == (1, 1)


def follow(replica: Redis, primary: Redis) -> None:
    replica.client.replicaof("127.0.0.1", str(primary.port))

    def is_up() -> bool:
        info: Any = replica.client.info("replication")
        return bool(info["master_link_status"] == "up")

    until(is_up)


@contextmanager
def moves() -> Iterator[list[str]]:
    told: list[str] = []

    def tell(sender: object, **kwargs: Any) -> None:
        told.append("moved")

    signals.redis_moved.connect(tell)
    yield told
    signals.redis_moved.disconnect(tell)


@pytest.mark.parametrize("refuses", ["a replica", "a full memory", "too few replicas"])
def test_a_redis_that_takes_no_writes_is_said_to_be_away_once(
    refuses: str, servers: Callable[..., Redis], caplog: pytest.LogCaptureFixture
) -> None:
    harm: dict[str, Callable[[Redis], object]] = {
        "a replica": lambda redis: redis.client.replicaof("127.0.0.1", "1"),
        "a full memory": lambda redis: redis.client.config_set("maxmemory", "1"),
        "too few replicas": lambda redis: redis.client.config_set("min-replicas-to-write", "1"),
    }
    redis = servers()
    with using(redis.url), caplog.at_level(logging.INFO):
        leaderboard.rebuild()
        harm[refuses](redis)

        score(20)
        for _ in range(8):
            assert not answers()
        assert source() is Source.DATABASE
    assert (said(caplog, "Redis does not answer"), said(caplog, "Redis answers again")) == (1, 0)


def test_the_channel_layer_leaves_it_as_well(servers: Callable[..., Redis], proxy: Callable[[Redis], Proxy]) -> None:
    former, new = servers(), servers()
    forwarder = proxy(former)

    def subscribers(redis: Redis) -> int:
        told: Any = redis.client.pubsub_numsub("asgi__group__test")
        return int(told[0][1])

    async def story(layer: Any) -> None:
        channel = await layer.new_channel()
        await layer.group_add("test", channel)
        forwarder.lead_to(new.port)

        layer.reconnect()

        await asyncio.to_thread(until, lambda: subscribers(new))
        await layer.group_send("test", {"type": "test"})
        assert await layer.receive(channel) == {"type": "test"}
        assert not subscribers(former)
        await layer.flush()

    with using(f"redis://127.0.0.1:{forwarder.port}/0") as layer:
        asyncio.run(asyncio.wait_for(story(layer), 30))


def test_no_request_waits_for_a_sentinel(watched: Any) -> None:
    with using(watched.url):
        until(answers)  # a sentinel did
        leaderboard.rebuild()
        for sentinel in watched.sentinels:
            sentinel.freeze()
        client().connection_pool.disconnect()

        assert answers()  # a connection that is made while no sentinel answers


def test_a_master_that_no_sentinel_names_is_said_to_be_away(watched: Any, caplog: pytest.LogCaptureFixture) -> None:
    with using(watched.url.replace("master=Board", "master=Bored")):
        assert not answers()

    assert said(caplog, "No sentinel of 3 names a healthy master 'Bored'") == 1


def test_processes_tell_of_themselves_through_sentinels(watched: Any) -> None:
    with using(watched.url):
        until(answers)  # a sentinel did
        presence.tell("here", "I am", for_s=5)

        assert presence.told() == ["I am"]
        assert watched.client.hkeys(presence.KEY) == [b"here"]
