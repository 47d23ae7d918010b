"""A token outlives what was decided about its user: whoever is blocked or deactivated is refused all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from scores import services
from scores.log import refusals
from scores.models import EndedAccount, ScoreEvent, UserScore
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.conftest import Post
from tools.servers import Server


def deactivate(user_id: str) -> None:
    User.objects.update_or_create(username=user_id, defaults={"is_active": False})


def block(user_id: str) -> None:
    services.block(user_id=user_id, actor="admin", reason="speed hack")


WAYS: list[tuple[Callable[[str], None], str]] = [(deactivate, "user_inactive"), (block, "user_blocked")]
either_way = pytest.mark.parametrize(("refuse", "code"), WAYS, ids=["deactivated", "blocked"])


def refused(answer: httpx.Response, code: str) -> bool:
    return answer.status_code == 403 and answer.json()["code"] == code


@pytest.fixture
def me(api: httpx.Client, token_for: TokenFor) -> Callable[[str], httpx.Response]:
    return lambda user_id: api.get("/me", headers={"Authorization": f"Bearer {token_for(user_id)}"})


@either_way
def test_they_are_refused_at_once(
    refuse: Callable[[str], None], code: str, increment: Post, me: Callable[[str], httpx.Response]
) -> None:
    increment("ann", 10)
    assert me("ann").status_code == 200

    refuse("ann")

    assert refused(increment("ann", 5), code)
    # At once too, unless the database did not answer a moment ago: then nobody is asked for, for a second.
    until(lambda: refused(me("ann"), code))
    assert UserScore.objects.get(user_id="ann").score == 10
    assert (increment("bob", 5).status_code, me("bob").status_code) == (200, 200)


@either_way
def test_every_worker_refuses_them_also_without_redis(
    refuse: Callable[[str], None], code: str, server: Server, token_for: TokenFor, tmp_path: Path
) -> None:
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "REDIS_URL": "redis://127.0.0.1:1/0", "WORKERS": "2"}
    cut_off = Server(log=tmp_path / "log", env=env).start()
    headers = {"Authorization": f"Bearer {token_for('ann')}"}

    def score(client: httpx.Client) -> httpx.Response:
        return client.post("/api/v1/scores/increment", json={"points": 1}, headers=headers)

    try:
        lines = [
            httpx.Client(base_url=cut_off.url, verify=False, timeout=30) for _ in range(12)
        ]  # the two workers share them
        assert {score(line).status_code for line in lines} == {200}
        refuse("ann")
        answers = [score(line) for line in lines]
        for line in lines:  # at once too, unless the database did not answer a moment ago
            until(lambda line=line: refused(line.get("/api/v1/me", headers=headers), code))  # type: ignore[misc]
        for line in lines:
            line.close()
    finally:
        cut_off.stop()

    assert all(refused(answer, code) for answer in answers)
    assert ScoreEvent.objects.filter(kind="increment").count() == 12


def test_whoever_is_active_again_is_taken_again(increment: Post) -> None:
    deactivate("ann")
    assert refused(increment("ann", 5), "user_inactive")

    User.objects.update(is_active=True)

    assert increment("ann", 5).status_code == 200


def test_whoever_is_deleted_stays_refused(
    increment: Post, me: Callable[[str], httpx.Response], api: httpx.Client, token_for: TokenFor
) -> None:
    """Whether deactivated before or not, and although nobody has the account any more."""
    deactivate("ann")
    User.objects.create_user("bob")

    User.objects.all().delete()

    assert refused(increment("ann", 5), "user_inactive")
    assert refused(increment("bob", 5), "user_inactive")
    by_arena = {"Authorization": f"Bearer {token_for('arena', scope='scores:write:any')}"}
    assert refused(api.post("/users/ann/scores/increment", json={"points": 1}, headers=by_arena), "user_inactive")
    until(lambda: refused(me("ann"), "user_inactive") and refused(me("bob"), "user_inactive"))
    assert not UserScore.objects.exists()


@either_way
def test_what_was_acknowledged_is_acknowledged_again(refuse: Callable[[str], None], code: str, increment: Post) -> None:
    first = increment("ann", 10, key="match-1")
    refuse("ann")

    assert increment("ann", 10, key="match-1").content == first.content
    assert refused(increment("ann", 10, key="match-2"), code)


@either_way
def test_nobody_scores_for_them_either(
    refuse: Callable[[str], None], code: str, api: httpx.Client, token_for: TokenFor
) -> None:
    headers = {"Authorization": f"Bearer {token_for('arena', scope='scores:write:any')}"}
    refuse("ann")

    assert refused(api.post("/users/ann/scores/increment", json={"points": 1}, headers=headers), code)


def test_the_actor_of_a_correction_is_not_asked_for(board: None) -> None:
    """An administrator who was blocked from the board still administers it."""
    block("admin")

    assert services.correct(user_id="ann", total=5, actor="admin", reason="a bug").total == 5


@pytest.fixture
def held_accounts(rival: BaseDatabaseWrapper) -> Iterator[None]:
    """Nobody can read the accounts, as when the database stands still."""
    with rival.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE auth_user")
        yield
        cursor.execute("ROLLBACK")


@pytest.mark.usefixtures("held_accounts")
def test_a_reader_is_let_in_while_nobody_can_say_and_waits_for_it_once(
    me: Callable[[str], httpx.Response],
) -> None:
    began = [time.monotonic()]
    for _ in range(10):
        assert me("ann").status_code == 404  # no score
        began.append(time.monotonic())

    waited = [after - before for before, after in pairwise(began)]
    assert sorted(waited)[5] < refusals.batcher._timeout_s  # most of them did not


def test_the_look_up_reads_no_account(board: None) -> None:
    """Whatever there are of accounts, it costs the size of an index that holds the deactivated ones only."""
    User.objects.bulk_create(User(username=f"user{number}", password="!") for number in range(2_000))
    EndedAccount.objects.bulk_create(EndedAccount(username=f"gone{number}") for number in range(10_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE auth_user, ended_accounts")
        names = [f"user{number}" for number in range(512)]
        cursor.execute(f"EXPLAIN {refusals.REFUSED_SQL}", refusals.parameters(names, [], []))
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "auth_user_inactive" in plan
    assert "Seq Scan on auth_user" not in plan
    assert "Seq Scan on ended_accounts" not in plan
