"""POST /users/{userId}/scores/increment: who may score for whom."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django.contrib.auth.models import User
from redis import Redis

from scores import services
from scores.models import ScoreEvent, UserScore
from tests.conftest import TokenFor
from tests.scores.conftest import Post
from tools.servers import Server

SCOPE = "scores:write:any"


@pytest.fixture
def score_for(api: httpx.Client, token_for: TokenFor) -> Post:
    """Posts points for a user by another one's token: `score_for("ann", 10)`, or `score_for("ann", 10, scope="")`."""

    def post(
        user_id: str, points: object, *, scope: object = SCOPE, key: str | None = None, by: str = "arena"
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token_for(by, scope=scope)}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return api.post(f"/users/{quote(user_id, safe='')}/scores/increment", json={"points": points}, headers=headers)

    return post


def code(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(answer.json()["code"])


def test_a_game_server_scores_for_its_players(score_for: Post, increment: Post) -> None:
    increment("ann", 5)

    answer = score_for("ann", 10)

    assert (answer.status_code, answer.json()) == (200, {"success": True, "newScore": 15})
    assert answer.headers["X-Leaderboard-Seq"] == "2"
    assert list(ScoreEvent.objects.order_by("seq").values_list("user_id", "actor")) == [
        ("ann", ""),
        ("ann", "service:arena"),
    ]
    assert not UserScore.objects.filter(user_id__contains="arena").exists()


@pytest.mark.parametrize(
    "scope", [None, "", "scores:write", "SCORES:WRITE:ANY", f"x{SCOPE}", f"{SCOPE},", f"\t{SCOPE}"]
)
@pytest.mark.writes_nothing
def test_without_the_scope_nobody_scores_for_others(scope: object, score_for: Post) -> None:
    answer = score_for("ann", 10, scope=scope)

    assert (answer.status_code, code(answer)) == (403, "insufficient_scope")
    assert 'error="insufficient_scope", scope="scores:write:any"' in answer.headers["WWW-Authenticate"]


@pytest.mark.writes_nothing
def test_nor_for_themselves_at_that_address(score_for: Post) -> None:
    assert score_for("ann", 10, by="ann", scope=None).status_code == 403


def test_the_scope_may_be_one_of_many(score_for: Post) -> None:
    assert score_for("ann", 10, scope=f"openid {SCOPE} profile").status_code == 200


@pytest.mark.parametrize("scope", [7, True, [SCOPE], {SCOPE: True}], ids=repr)
@pytest.mark.writes_nothing
def test_a_scope_that_is_no_text_makes_no_token(scope: object, score_for: Post) -> None:
    answer = score_for("ann", 10, scope=scope)

    assert (answer.status_code, code(answer)) == (401, "token_invalid")


@pytest.mark.writes_nothing
def test_without_a_token_it_is_a_401(api: httpx.Client) -> None:
    answer = api.post("/users/ann/scores/increment", json={"points": 10})

    assert (answer.status_code, code(answer)) == (401, "not_authenticated")


@pytest.mark.parametrize(
    "user_id", ["a/b", "100%25", "🏆", "a/scores/increment", "x" * 255, " ann ", "...", "..ann", "a.b/c.", "a\\..\\b"]
)
def test_whoever_can_have_a_score_can_be_scored_for(user_id: str, score_for: Post) -> None:
    assert score_for(user_id, 10).status_code == 200
    assert UserScore.objects.get().user_id == user_id


@pytest.mark.parametrize(
    "user_id",
    [
        "x" * 256,
        "x" * 20_000,
        "a\0",
        "a\nb",
        "a\n",
        "\n",
        "a\x85",
        "e\u0301",
        "M\ufffdller",
        "service:arena",
        "service:",
    ],
)
@pytest.mark.writes_nothing
def test_what_is_no_user_id_is_refused(user_id: str, score_for: Post) -> None:
    answer = score_for(user_id, 10)

    assert (answer.status_code, code(answer)) == (400, "user_id_invalid")


@pytest.mark.parametrize("user_id", [".", "..", "a/..", "../a", "a/./b"])
@pytest.mark.writes_nothing
def test_an_id_that_clients_would_resolve_is_refused(
    user_id: str, server: Server, api: httpx.Client, token_for: TokenFor
) -> None:
    """`/users/../scores/increment` would be another address by the time it is sent, and the points the server's own."""
    path = f"/api/v1/users/{user_id.replace('.', '%2E')}/scores/increment"
    sent = as_it_is(server, path, token_for("arena", scope=SCOPE))
    own = api.post("/scores/increment", json={"points": 10}, headers={"Authorization": f"Bearer {token_for(user_id)}"})

    assert (sent["status"], sent["code"]) == (400, "user_id_invalid")
    assert (own.status_code, code(own)) == (401, "token_invalid")


def as_it_is(server: Server, path: str, token: str) -> dict[str, Any]:
    """The problem that is the answer to points for the path, which no library touches."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", path, body=b'{"points": 10}', headers=headers)
    problem: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return problem


@pytest.mark.parametrize("user_id", ["M%FCller", "M%F6ller", "%ff", "%ED%A0%80", "%C3"])
@pytest.mark.writes_nothing
def test_an_id_that_is_not_utf_8_scores_for_nobody(user_id: str, server: Server, token_for: TokenFor) -> None:
    """The server would make one id of the first two."""
    sent = as_it_is(server, f"/api/v1/users/{user_id}/scores/increment", token_for("arena", scope=SCOPE))

    assert (sent["status"], sent["code"]) == (400, "bad_request")
    assert "UTF-8" in sent["detail"]


@pytest.mark.writes_nothing
def test_nobody_has_no_address(score_for: Post) -> None:
    assert score_for("", 10).status_code in (404, 405)


@pytest.mark.writes_nothing
def test_a_wrong_body_is_refused_as_from_a_player(score_for: Post) -> None:
    answer = score_for("ann", "10")

    assert (answer.status_code, code(answer)) == (400, "points_is_text")


def test_a_key_is_that_of_the_player_who_is_scored_for(score_for: Post, increment: Post) -> None:
    first = increment("ann", 10, key="match-1")

    again = score_for("ann", 10, key="match-1")
    another = score_for("bob", 10, key="match-1")

    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert "Idempotency-Replayed" not in another.headers


def test_a_blocked_player_is_not_scored_for(score_for: Post) -> None:
    services.block(user_id="ann", actor="admin", reason="speed hack")

    answer = score_for("ann", 10)

    assert (answer.status_code, code(answer)) == (403, "user_blocked")


# Who it is


@pytest.mark.writes_nothing
def test_it_has_no_score_of_its_own(api: httpx.Client, token_for: TokenFor) -> None:
    headers = {"Authorization": f"Bearer {token_for('arena', scope=SCOPE)}"}

    scored = api.post("/scores/increment", json={"points": 10}, headers=headers)
    asked = api.get("/me", headers=headers)

    assert [(answer.status_code, code(answer)) for answer in (scored, asked)] == [(403, "service_has_no_score")] * 2


def test_a_player_of_the_same_name_is_somebody_else(score_for: Post, increment: Post) -> None:
    increment("arena", 5)
    services.block(user_id="arena", actor="admin", reason="speed hack")
    User.objects.create(username="arena", is_active=False)

    assert (increment("arena", 5).status_code, score_for("ann", 10).status_code) == (403, 200)
    assert code(score_for("arena", 10)) == "user_inactive"


def test_its_block_ends_all_its_tokens_and_no_player(score_for: Post, increment: Post) -> None:
    services.block(user_id="service:arena", actor="admin", reason="leaked")

    answer = score_for("ann", 10)

    assert (answer.status_code, code(answer)) == (403, "user_blocked")
    assert (increment("arena", 5).status_code, score_for("ann", 10, by="hall").status_code) == (200, 200)


@pytest.mark.parametrize("user_id", ["service:arena", "service:"])
@pytest.mark.writes_nothing
def test_no_player_s_token_names_a_service(user_id: str, api: httpx.Client, token_for: TokenFor) -> None:
    for scope in ("", SCOPE):
        headers = {"Authorization": f"Bearer {token_for(user_id, scope=scope)}"}
        answer = api.post("/users/ann/scores/increment", json={"points": 10}, headers=headers)

        assert (answer.status_code, code(answer)) == (401, "token_invalid")


@pytest.mark.parametrize(("length", "status"), [(247, 200), (248, 401)])
def test_its_name_and_the_prefix_fit_into_an_id(length: int, status: int, score_for: Post) -> None:
    assert score_for("ann", 10, by="x" * length).status_code == status


# Limits


@pytest.fixture(scope="module")
def _limited(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "RATE_LIMIT": "3/minute", "READ_RATE_LIMIT": "off"}
    server = Server(log=tmp_path_factory.mktemp("limited") / "log", env=env).start()
    yield server
    server.stop()


@pytest.fixture
def limited(_limited: Server, board: None) -> Iterator[httpx.Client]:
    """A client of a server with a limit of three increments in a minute."""
    with httpx.Client(base_url=f"{_limited.url}/api/v1", verify=False, timeout=30) as client:
        yield client


def status_of(client: httpx.Client, path: str, token: str, method: str = "POST") -> int:
    return client.request(method, path, json={"points": 1}, headers={"Authorization": f"Bearer {token}"}).status_code


def test_nobody_uses_up_the_limit_of_others(limited: httpx.Client, token_for: TokenFor, redis: Redis) -> None:
    own, of_ann = "/scores/increment", "/users/ann/scores/increment"
    ann, stranger = token_for("ann"), token_for("eve")
    arena, hall = token_for("arena", scope=SCOPE), token_for("hall", scope=SCOPE)

    strangers = [status_of(limited, of_ann, stranger, method) for method in ("POST", "GET", "PUT") for _ in range(4)]
    nobodies = [status_of(limited, f"/users/{'x' * 20_000}/scores/increment", arena) for _ in range(4)]
    before = redis.keys("leaderboard:limits:*")
    first, second, themselves = (
        [status_of(limited, path, token) for _ in range(4)]
        for path, token in ((of_ann, arena), (of_ann, hall), (own, ann))
    )

    assert (set(strangers), set(nobodies), before) == ({403, 404, 405}, {400}, [])
    assert first == second == themselves == [200, 200, 200, 429]


def test_no_key_grows_with_an_id(limited: httpx.Client, token_for: TokenFor, redis: Redis) -> None:
    arena = token_for("a" * 200, scope=SCOPE)
    players = ["🏆" * 254 + last for last in "ab"]  # alike for as long as the ids are kept as they are

    answers = [
        status_of(limited, f"/users/{quote(player)}/scores/increment", arena) for player in players for _ in range(4)
    ]

    assert answers == [200, 200, 200, 429] * 2
    assert max(len(key) for key in redis.scan_iter("leaderboard:limits:*")) < 200
