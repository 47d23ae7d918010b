"""Points for actions: what each is worth, how often it may be taken, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from scores.models import Action, ScoreEvent, UserScore
from tests.conftest import TokenFor
from tests.scores.conftest import be_ahead, nothing_was_written
from tools.servers import Server

Take = Callable[..., httpx.Response]
QUEST = "quest_complete"


@pytest.fixture
def take(api: httpx.Client, token_for: TokenFor) -> Take:
    """Posts an action: `take("ann", QUEST)`, with a key, or with another body altogether."""

    def post(user_id: str, action: object = QUEST, *, key: str | None = None, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token_for(user_id)}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return api.post("/scores/increment", json={"action": action} | body, headers=headers)

    return post


@pytest.fixture
def quest(board: None) -> Action:
    """An action worth 50 points, as often as anybody likes."""
    return Action.objects.create(name=QUEST, points=50)


def code(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(answer.json()["code"])


def some_time_ago(seconds: float) -> None:
    """Let what has happened have happened earlier."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE score_events SET created_at = created_at - make_interval(secs => %s)", [seconds])


def test_an_action_is_worth_what_the_catalogue_says(quest: Action, take: Take) -> None:
    answer = take("ann")

    assert (answer.status_code, answer.json()) == (200, {"success": True, "newScore": 50})
    assert ScoreEvent.objects.values_list("kind", "points", "action").get() == ("increment", 50, QUEST)


def test_a_change_of_the_catalogue_holds_at_once(quest: Action, take: Take) -> None:
    take("ann")

    Action.objects.update(points=7)

    assert take("ann").json()["newScore"] == 57


def test_mere_points_name_no_action(api: httpx.Client, token_for: TokenFor) -> None:
    api.post("/scores/increment", json={"points": 5}, headers={"Authorization": f"Bearer {token_for('ann')}"})

    assert ScoreEvent.objects.get().action is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"action": "no_such_thing"}, "unknown_action", id="unknown"),
        pytest.param({"action": QUEST.upper()}, "unknown_action", id="another case"),
        pytest.param({"action": QUEST, "points": 10}, "points_and_action", id="both"),
        pytest.param({"action": None, "points": 10}, "points_and_action", id="null and points"),
        pytest.param({"action": None}, "action_invalid", id="null"),
        pytest.param({"action": ""}, "action_invalid", id="empty"),
        pytest.param({"action": 7}, "action_invalid", id="number"),
        pytest.param({"action": [QUEST]}, "action_invalid", id="list"),
        pytest.param({"action": f"{QUEST}\n"}, "action_invalid", id="newline"),
        pytest.param({"action": "a\0"}, "action_invalid", id="NUL"),
        pytest.param({"action": "x" * 65}, "action_invalid", id="65 letters"),
        pytest.param({"action": "épée"}, "action_invalid", id="accents"),
    ],
)
def test_a_wrong_action_is_a_400(body: dict[str, Any], expected: str, quest: Action, take: Take) -> None:
    answer = take("ann", **body) if "points" in body else take("ann", body["action"])

    assert (answer.status_code, code(answer)) == (400, expected)
    assert nothing_was_written()


def test_an_action_that_is_not_enabled_is_unknown(quest: Action, take: Take) -> None:
    Action.objects.update(enabled=False)

    assert code(take("ann")) == "unknown_action"


# How often


def test_an_action_cools_down(quest: Action, take: Take) -> None:
    Action.objects.update(cooldown_s=60)
    assert take("ann").status_code == 200

    some_time_ago(20)
    answer = take("ann")

    assert (answer.status_code, code(answer)) == (429, "action_cooling_down")
    assert 38 <= int(answer.headers["Retry-After"]) <= 40
    assert take("bob").status_code == 200
    some_time_ago(40)
    assert take("ann").status_code == 200


def test_each_action_cools_down_by_itself(quest: Action, take: Take) -> None:
    Action.objects.create(name="daily_login", points=1, cooldown_s=60)
    Action.objects.update(cooldown_s=60)

    assert [take("ann").status_code, take("ann", "daily_login").status_code] == [200, 200]


def test_an_action_has_a_cap_for_the_day(quest: Action, take: Take) -> None:
    be_ahead()
    Action.objects.update(daily_cap=3)
    assert [take("ann").status_code for _ in range(3)] == [200] * 3

    answer = take("ann")

    assert (answer.status_code, code(answer)) == (429, "action_cap_reached")
    assert int(answer.headers["Retry-After"]) == 12 * 3600
    assert take("bob").status_code == 200
    some_time_ago(86_400)
    assert take("ann").status_code == 200


def test_a_refusal_counts_for_nothing(quest: Action, take: Take) -> None:
    """Neither towards the cap nor as the moment from which to cool down."""
    Action.objects.update(cooldown_s=60, daily_cap=2)
    take("ann")
    for _ in range(5):
        assert take("ann").status_code == 429

    some_time_ago(61)

    assert take("ann").status_code == 200
    assert ScoreEvent.objects.count() == 2


@pytest.mark.parametrize(("rule", "most"), [({"cooldown_s": 60}, 1), ({"daily_cap": 3}, 3)], ids=["cooldown", "cap"])
def test_forty_at_once_do_not_get_more(rule: dict[str, int], most: int, quest: Action, take: Take) -> None:
    """They meet in one transaction, where the second must see the first."""
    Action.objects.update(**rule)

    with ThreadPoolExecutor(40) as pool:
        statuses = [answer.status_code for answer in pool.map(lambda _: take("ann"), range(40))]

    assert sorted(statuses) == [200] * most + [429] * (40 - most)
    assert UserScore.objects.get().score == 50 * most


# Asked twice


def test_a_retry_of_an_action_is_answered_as_before(quest: Action, take: Take) -> None:
    Action.objects.update(cooldown_s=60)
    first = take("ann", key="match-1")
    Action.objects.update(points=7)

    again = take("ann", key="match-1")

    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_key_is_for_one_action(quest: Action, take: Take, api: httpx.Client, token_for: TokenFor) -> None:
    Action.objects.create(name="other", points=50)
    take("ann", key="match-1")

    headers = {"Authorization": f"Bearer {token_for('ann')}", "Idempotency-Key": "match-1"}
    points = api.post("/scores/increment", json={"points": 50}, headers=headers)

    assert code(take("ann", "other", key="match-1")) == "idempotency_key_reused"
    assert code(points) == "idempotency_key_reused"
    assert UserScore.objects.get().score == 50


# Actions only


@pytest.fixture(scope="module")
def _strict(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "ACTIONS_ONLY": "true"}
    server = Server(log=tmp_path_factory.mktemp("strict") / "log", env=env).start()
    yield server
    server.stop()


@pytest.fixture
def strict(_strict: Server, quest: Action) -> Iterator[httpx.Client]:
    """A client of a server with ACTIONS_ONLY."""
    with httpx.Client(base_url=f"{_strict.url}/api/v1", verify=False, timeout=30) as client:
        yield client


def test_players_get_points_for_actions_only(strict: httpx.Client, token_for: TokenFor) -> None:
    strict.headers["Authorization"] = f"Bearer {token_for('ann')}"

    points = strict.post("/scores/increment", json={"points": 10})
    action = strict.post("/scores/increment", json={"action": QUEST})

    assert (points.status_code, code(points)) == (403, "points_not_allowed")
    assert action.json() == {"success": True, "newScore": 50}


def test_game_servers_may_still_name_points(strict: httpx.Client, token_for: TokenFor) -> None:
    path = "/users/ann/scores/increment"
    strict.headers["Authorization"] = f"Bearer {token_for('arena', scope='scores:write:any')}"

    assert strict.post(path, json={"points": 10}).json() == {"success": True, "newScore": 10}
    assert strict.post(path, json={"action": QUEST}).json() == {"success": True, "newScore": 60}


# The catalogue


@pytest.fixture
def admin(board: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


FORM = {"name": QUEST, "points": 50, "cooldown_s": 0, "daily_cap": "", "enabled": "on"}


def test_the_catalogue_is_kept_in_the_admin(admin: Client) -> None:
    admin.post("/admin/scores/action/add/", FORM)
    admin.post(f"/admin/scores/action/{QUEST}/change/", FORM | {"name": "renamed", "points": 60, "daily_cap": 5})

    assert list(Action.objects.values_list("name", "points", "daily_cap", "enabled")) == [(QUEST, 60, 5, True)]


@pytest.mark.parametrize(
    "wrong", [{"name": "two words"}, {"name": "x" * 65}, {"points": 0}, {"points": 2**53}, {"cooldown_s": -1}], ids=repr
)
def test_a_rule_that_could_not_be_kept_is_not_taken(wrong: dict[str, Any], admin: Client) -> None:
    answer = admin.post("/admin/scores/action/add/", FORM | wrong)

    assert answer.status_code == 200  # the form again, with what is wrong
    assert not Action.objects.exists()


# What it costs


def test_mere_points_have_no_entry_in_the_index_of_actions(board: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_indexdef('score_events_of_action'::regclass)")
        (definition,) = cursor.fetchone()

    assert definition.endswith("(user_id, action, created_at) WHERE (action IS NOT NULL)")
