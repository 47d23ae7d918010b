"""Whether the group delivers: a process believes only what it hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.contrib.auth import get_user_model

from tests.conftest import TokenFor
from tests.polling import until
from tools.servers import Server
from tools.stores import Redis

pytestmark = pytest.mark.slow

GROUP = "asgi__group__leaderboard"
ALL_KEYS = ["+@all", "~*"]
Checkup = Callable[[], dict[str, Any]]


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis with a user who may use every key, and no channel; the service is that user."""
    redis = Redis(tmp_path_factory.mktemp("group") / "redis")
    redis.boot()
    allow(redis, *ALL_KEYS)
    yield redis
    redis.kill()
    redis.client.close()


def allow(redis: Redis, *rules: str) -> None:
    rules = ("reset", "on", ">secret", "resetchannels", *rules)
    redis.client.execute_command("ACL SETUSER", "service", *rules)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def limited(_server: Server, own_redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url = f"redis://service:secret@127.0.0.1:{own_redis.port}/0"
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "REDIS_URL": url, "LOG_LEVEL": "INFO"}
    limited = Server(log=tmp_path_factory.mktemp("limited") / "log", env=env).start()
    yield limited
    limited.stop()


@pytest.fixture
def group(board: None, limited: Server, token_for: TokenFor) -> Checkup:
    """What an administrator is told of the group of `limited`."""
    get_user_model().objects.create_user("root", is_staff=True)
    headers = {"Authorization": f"Bearer {token_for('root')}"}

    def ask() -> dict[str, Any]:
        answer = httpx.get(f"{limited.url}/healthz/deep", headers=headers, timeout=30, verify=False)
        assert answer.status_code == (200 if answer.json()["status"] == "ok" else 503)
        return dict(answer.json().get("group", {}))  # none if Redis is silent and the deadline ends the check

    return ask


def is_heard(redis: Redis) -> bool:
    return bool(redis.client.pubsub_numsub(GROUP) == [(GROUP.encode(), 1)])


def test_a_user_without_channels_is_told_and_needs_no_restart_once_there_are_some(
    limited: Server, group: Checkup, own_redis: Redis
) -> None:
    before = len(limited.log.read_text())
    allow(own_redis, *ALL_KEYS)

    until(lambda: group().get("fault") == "Redis refuses it: the user of Redis may lack &asgi* in its ACL")
    assert not is_heard(own_redis)

    allow(own_redis, *ALL_KEYS, "&asgi*", "-subscribe")  # it may publish, and the layer keeps the refusal to itself

    until(lambda: group().get("fault", "").startswith("this process does not hear what it publishes"))
    assert not is_heard(own_redis)

    allow(own_redis, *ALL_KEYS, "&asgi*")

    until(lambda: group().get("status") == "ok")
    assert is_heard(own_redis)
    log = limited.log.read_text()[before:]
    assert log.count("The group does not deliver (Redis refuses it") <= 1  # it may have been said at the start
    assert log.count("The group does not deliver (this process does not hear") == 1
    assert log.count("The group delivers again") == 1


def test_a_redis_that_was_away_is_joined_anew(limited: Server, group: Checkup, own_redis: Redis) -> None:
    allow(own_redis, *ALL_KEYS, "&asgi*")
    until(lambda: is_heard(own_redis) and group().get("status") == "ok")

    before = len(limited.log.read_text())
    own_redis.kill()
    until(lambda: group().get("fault") == "Redis does not answer")
    own_redis.boot()
    allow(own_redis, *ALL_KEYS, "&asgi*")

    until(lambda: is_heard(own_redis) and group().get("status") == "ok")
    log = limited.log.read_text()[before:]
    assert log.count("The group does not deliver (Redis does not answer)") == log.count("The group delivers again") == 1
