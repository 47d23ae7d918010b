"""A service is blocked and admitted again like a user, and is on no board: not in Redis, not in a table, not in a count."""

from __future__ import annotations

import asyncio
from importlib import import_module

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from redis import Redis

from scores import selectors, services
from scores.exceptions import AlreadyBlocked, NotBlocked, ScoreError, ServiceHasNoScore
from scores.log.head import log
from scores.models import Block, ScoreEvent, UserScore
from scores.projection.leaderboard import leaderboard
from tests.scores.conftest import copy_is_true, hooks_lost

SERVICE = "service:arena"


def block() -> None:
    services.block(user_id=SERVICE, actor="admin", reason="leaked")


def unblock() -> None:
    services.unblock(user_id=SERVICE, actor="admin", reason="rotated")


def score(user_id: str) -> None:
    asyncio.run(services.increment(user_id=user_id, points=5, actor=SERVICE))


def nobody_but_ann_is_on_the_board(redis: Redis) -> bool:
    standing = selectors.standings([SERVICE, "ann"])
    rows = list(UserScore.objects.values_list("user_id", flat=True))
    return (list(standing), rows, log.head().members, copy_is_true(redis)) == (["ann"], ["ann"], 1, True)


def test_a_service_that_is_blocked_and_admitted_is_never_on_the_board(copy: Redis) -> None:
    score("ann")

    for act in (block, unblock, block, unblock):
        act()
        assert nobody_but_ann_is_on_the_board(copy)

    score("ann")
    events = ScoreEvent.objects.filter(user_id=SERVICE).values_list("kind", "points", "total", "actor", "reason")
    assert list(events.order_by("seq")[:2]) == [
        ("block", 0, 0, "admin", "leaked"),
        ("unblock", 0, 0, "admin", "rotated"),
    ]
    assert nobody_but_ann_is_on_the_board(copy)


def test_nor_after_the_copy_caught_up_or_was_rebuilt(copy: Redis) -> None:
    with hooks_lost():
        score("ann")
        block()
        unblock()
    leaderboard.catch_up(log.head())
    assert nobody_but_ann_is_on_the_board(copy)

    leaderboard.rebuild()

    assert nobody_but_ann_is_on_the_board(copy)


def test_it_is_blocked_once_and_admitted_once(board: None) -> None:
    block()
    with pytest.raises(AlreadyBlocked):
        block()
    unblock()
    with pytest.raises(NotBlocked):
        unblock()


def test_nothing_gives_it_a_score(board: None) -> None:
    with pytest.raises(ServiceHasNoScore):
        score(SERVICE)
    with pytest.raises(ServiceHasNoScore):
        services.correct(user_id=SERVICE, total=5, actor="admin", reason="a mistake")

    assert not ScoreEvent.objects.exists()


def test_a_score_from_before_the_namespace_can_leave_the_board_and_not_come_back(copy: Redis) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO user_scores (user_id, score) VALUES (%s, 7)", [SERVICE])
        cursor.execute("UPDATE leaderboards SET members = 1")
    leaderboard.rebuild()

    block()

    assert (log.head().members, copy_is_true(copy)) == (0, True)
    with pytest.raises(ScoreError):
        unblock()


def test_what_was_refused_before_the_namespace_stays_refused(board: None) -> None:
    """The migration: a token that ended when its user was blocked or deactivated does not begin again."""
    services.block(user_id="arena", actor="admin", reason="leaked")
    User.objects.create(username="hall", is_active=False)
    User.objects.create(username="ann")
    (seq,) = Block.objects.values_list("seq", flat=True)
    migration = import_module("scores.migrations.0009_service_tokens")

    with connection.cursor() as cursor:
        for _ in range(2):  # interrupted, and run again
            cursor.execute(migration.BLOCK_SERVICES_SQL)

    blocks = dict(Block.objects.values_list("user_id", "seq"))
    assert blocks == {"arena": seq, SERVICE: seq, "service:hall": 0}
    services.unblock(user_id="service:hall", actor="admin", reason="its token is ours again")
    assert log.head().members == 0


@pytest.mark.parametrize(
    ("role", "expected"), [("Viewers", ["view"]), ("Moderators", ["view"]), ("Admins", ["add", "change", "view"])]
)
@pytest.mark.writes_nothing
def test_the_groups_may_use_tokens(role: str, expected: list[str], board: None) -> None:
    permitted = Group.objects.get(name=role).permissions.filter(content_type__model="servicetoken")

    assert sorted(permitted.values_list("codename", flat=True)) == [f"{verb}_servicetoken" for verb in expected]
