"""A user of Redis with no more than it needs, and one with less."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth import get_user_model

from scores import selectors, services
from scores.projection.leaderboard import PageQuestion, leaderboard
from scores.selectors import Source
from scores.stores import permissions
from scores.stores.redis import breaker, say_what_is_denied
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.stores.test_failover import said
from tools.servers import ROOT, Server
from tools.stores import ClusterNode, Redis

from .conftest import answers, using

DOCUMENT = (ROOT / "docs" / "operations.md").read_text()


def rules() -> list[str]:
    """What docs/operations.md gives the user, without a password."""
    (block,) = re.findall(r"```text\nACL SETUSER leaderboard (.*?)```", DOCUMENT, re.DOTALL)
    return [rule for rule in block.split() if not rule.startswith(">")]


def with_user(redis: Redis, *more: str) -> str:
    """Make the user as documented, then with more or less; returns its URL."""
    grant(redis, *rules(), ">secret", *more)
    return redis.url.replace("redis://", "redis://leaderboard:secret@")


def grant(redis: Redis, *more: str) -> None:
    client: Any = redis.client
    client.execute_command("ACL", "SETUSER", "leaderboard", *more)


def test_the_documents_name_each_command_that_is_asked_for() -> None:
    assert {rule.removeprefix("+") for rule in rules() if rule.startswith("+")} == permissions.COMMANDS


def test_each_command_of_a_script_is_asked_for() -> None:
    used = set()
    for path in (ROOT / "scores").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= set(re.findall(r"redis\.p?call\('(\w+)'", node.value))

    assert used
    assert {command.lower() for command in used} <= permissions.COMMANDS


@pytest.fixture
def limited(servers: Callable[..., Redis], tmp_path: Path, server: Server) -> Iterator[tuple[Server, ClusterNode]]:
    """A server whose user has what is documented, of a Redis in cluster mode, and RATE_LIMIT on."""
    node = servers(ClusterNode)
    assert isinstance(node, ClusterNode)
    node.take()
    env = {"REDIS_URL": with_user(node, "+cluster|info"), "RATE_LIMIT": "100/minute"}
    # That of all tests goes on: stopped in a rebuild, it would keep all others from theirs.
    limited = Server(log=tmp_path / "log", env=env | {"DATABASE_URL": server.env["DATABASE_URL"]}).start()
    yield limited, node
    limited.stop()


@pytest.mark.slow
def test_a_server_with_just_these_permissions_has_everything(
    limited: tuple[Server, ClusterNode], token_for: TokenFor
) -> None:
    server, node = limited
    get_user_model().objects.create_user("root", is_staff=True)
    staff, player = ({"Authorization": f"Bearer {token_for(name)}"} for name in ("root", "ann"))
    with httpx.Client(base_url=server.url, verify=False, timeout=30) as client:

        def source() -> str:
            return str(client.get("/api/v1/leaderboard").headers.get("X-Leaderboard-Source"))

        until(lambda: source() == "redis")
        answer = client.post("/api/v1/scores/increment", json={"points": 5}, headers=player)
        assert answer.status_code == 200, answer.text
        until(lambda: node.client.zscore("leaderboard", "ann") == 5)
        until(lambda: client.get("/healthz/deep", headers=staff).status_code == 200)
        deep = client.get("/healthz/deep", headers=staff).json()
        assert deep["redis"]["mode"] == "cluster"
        assert source() == "redis"
    until(lambda: all(map(node.client.exists, ("leaderboard", "leaderboard:processes", "{leaderboard}:state"))))
    assert list(node.client.scan_iter("leaderboard:limits:{*"))
    listening: Any = node.client.pubsub_numsub("asgi__group__leaderboard")
    assert listening[0][1] == 1
    assert not [line for line in server.log.read_text().splitlines() if "permission" in line]


@pytest.mark.parametrize("rule", ["zadd", "evalsha", "rename"])
def test_a_permission_that_is_missing_is_named_once(
    rule: str, servers: Callable[..., Redis], caplog: pytest.LogCaptureFixture
) -> None:
    redis = servers()
    with using(with_user(redis, f"-{rule}")), caplog.at_level(logging.INFO):
        services.correct(user_id="ann", total=20, actor="test", reason="start")
        with pytest.raises(Exception, match="away"):
            leaderboard.rebuild()
        for _ in range(5):
            assert not answers()
        (page,) = selectors.reader.answer_questions([PageQuestion(10, 0)])

        assert page.source is Source.DATABASE
        assert breaker.is_open
        grant(redis, f"+{rule}")
        until(answers)
        leaderboard.rebuild()
    assert said(caplog, f"its user lacks permissions; it needs ACL SETUSER … +{rule}") == 1
    assert (said(caplog, "Redis does not answer"), said(caplog, "Redis answers again")) == (1, 1)


@pytest.mark.parametrize(
    ("less", "needed"),
    [
        (("resetchannels",), ["&asgi*"]),
        (("-subscribe",), ["+subscribe"]),
        (("-multi",), ["+multi"]),
        (("-exec",), ["+exec"]),
        (("-incr", "-hdel"), ["+hdel", "+incr"]),
        (("resetkeys", "~leaderboard:*", "~{leaderboard}:*"), ["~leaderboard"]),
        (("resetkeys", "~leaderboard", "~{leaderboard}:*"), ["~leaderboard:*"]),
        (("resetkeys", "~leaderboard", "~leaderboard:*"), ["~{leaderboard}:*"]),
    ],
)
def test_what_is_rarely_needed_is_named_too(
    less: tuple[str, ...], needed: list[str], servers: Callable[..., Redis], caplog: pytest.LogCaptureFixture
) -> None:
    redis = servers()
    with using(with_user(redis, *less)):
        say_what_is_denied()
        say_what_is_denied()
    assert said(caplog, f"ACL SETUSER … {' '.join(needed)}") == 1
