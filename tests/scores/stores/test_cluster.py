"""Redis in cluster mode: one shard serves the board, with more the reads stay on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from limits import parse

from scores import services
from scores.access.sliding_window import Hit, count_in_redis
from scores.board import LEADERBOARD
from scores.boards import comparison, definitions
from scores.boards.copies import board_copies
from scores.boards.documents import parse as parse_board
from scores.boards.follower import BoardFollower
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.projection.leaderboard import leaderboard
from scores.projection.verification import compare
from scores.selectors import Source
from scores.stores import presence
from scores.stores.redis import guarded, outage
from tests.polling import until
from tests.scores.admin.test_admin import logged_in
from tests.scores.conftest import be_ahead
from tools.stores import ClusterNode, Redis

from .conftest import answers, source, using

HITS = [Hit("test", subject, parse("5/minute")) for subject in ("ann", "ben", "cem")]


@pytest.mark.slow
def test_one_shard_with_all_slots_has_everything(
    servers: Callable[..., ClusterNode], caplog: pytest.LogCaptureFixture
) -> None:
    node = servers(ClusterNode)
    with using(node.url) as layer, caplog.at_level(logging.INFO):
        assert not answers()
        assert "0 of 16384 slots are assigned" in str(outage.to_mend)

        node.take()
        until(answers)
        leaderboard.rebuild()
        services.correct(user_id="ann", total=20, actor="test", reason="start")
        counted = guarded(lambda: count_in_redis(HITS))
        presence.tell("here", "I am", for_s=5)

        assert source() is Source.REDIS
        assert compare(leaderboard).equal
        assert node.client.zscore("leaderboard", "ann") == 20
        assert node.client.hmget("{leaderboard}:state", ["seq"]) == [b"1"]
        assert node.client.exists("{leaderboard}:rebuilt")
        assert not list(node.client.scan_iter("leaderboard:state")) + list(node.client.scan_iter("leaderboard:rebuilt"))
        assert all(hit.admitted for hit in counted)
        assert presence.told() == ["I am"]
        assert asyncio.run(heard(layer)) == {"type": "test"}
    assert [record.getMessage() for record in caplog.records].count("Redis answers again") == 1


async def heard(layer: Any) -> object:
    channel = await layer.new_channel()
    await layer.group_add("test", channel)
    await layer.group_send("test", {"type": "test"})
    async with asyncio.timeout(30):
        return await layer.receive(channel)


def test_elsewhere_the_keys_keep_their_names() -> None:
    assert (LEADERBOARD.state_key, LEADERBOARD.side_key("1")) == ("leaderboard:state", "leaderboard:rebuild:1")


@pytest.mark.slow
def test_more_shards_are_named_once_and_reads_stay_on_postgresql(
    servers: Callable[..., ClusterNode], caplog: pytest.LogCaptureFixture
) -> None:
    admin = logged_in(User.objects.create_superuser("root"))
    services.correct(user_id="ann", total=20, actor="test", reason="start")
    first, second = servers(ClusterNode), servers(ClusterNode)
    first.take(0, 8_191)
    second.take(8_192)
    first.meet(second)
    until(lambda: b"cluster_size:2" in info(first))

    with using(first.url):
        for _ in range(10):
            assert not answers()
        assert source() is Source.DATABASE
        assert "cluster of 2 shards" in str(outage.to_mend)
        assert commands(first, "eval", "evalsha") == 0
        seen = admin.get("/admin/status/").content.decode()
        assert "Redis cannot be used: Redis is a cluster of 2 shards" in seen
        deep = admin.get("/healthz/deep").json()
        assert "cluster of 2 shards" in deep["redis"]["reason"]

    told = [record.getMessage() for record in caplog.records if record.name == "scores.stores.redis"]
    assert ["cluster of 2 shards" in message for message in told] == [True]


def info(node: ClusterNode) -> bytes:
    client: Any = node.client
    return bytes(client.execute_command("CLUSTER", "INFO"))


def commands(server: Redis, *names: str) -> int:
    stats: dict[str, dict[str, int]] = server.client.info("commandstats")  # type: ignore[assignment]
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names)


@pytest.mark.slow
def test_one_shard_has_the_boards_too(servers: Callable[..., ClusterNode]) -> None:
    node = servers(ClusterNode)
    node.take()
    with using(node.url):
        until(answers)
        be_ahead()
        board = definitions.create(parse_board({"name": "laps", "fold": "best", "stream": True, "period": "hourly"}))
        writer.record([Change(Kind.SCORE, user, 5, stream="laps") for user in ("ann", "ben", "cem")])
        follower = BoardFollower(log, board_copies)
        for _ in range(5):
            follower.build()
            follower.project()
            follower.tend()
            follower.fold()

        assert [(c.store, c.seq, c.compared, c.equal) for c in comparison.compare(log, board_copies, board)] == [
            ("standings", 3, 3, True),
            ("redis", 3, 3, True),
        ]
        node.client.zadd(LEADERBOARD.period_keys(board.id, 1)[0], {"eve": 5})
        assert not comparison.compare(log, board_copies, board)[1].equal
