"""POST /users/{userId}/scores/increment: who may score for whom."""

from __future__ import annotations

from io import StringIO
from urllib.parse import quote

import httpx
import pytest
from django.core.management import CommandError, call_command

from scores import services
from scores.models import ScoreEvent, UserScore
from tests.conftest import TokenFor
from tests.scores.conftest import Post

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
    assert list(ScoreEvent.objects.order_by("seq").values_list("user_id", "actor")) == [("ann", ""), ("ann", "arena")]
    assert not UserScore.objects.filter(user_id="arena").exists()


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


@pytest.mark.parametrize("user_id", ["a/b", "100%25", "🏆", "a/scores/increment", "x" * 255, " ann "])
def test_whoever_can_have_a_score_can_be_scored_for(user_id: str, score_for: Post) -> None:
    assert score_for(user_id, 10).status_code == 200
    assert UserScore.objects.get().user_id == user_id


@pytest.mark.parametrize("user_id", ["x" * 256, "a\0", "a\x85", "e\u0301"], ids=["256", "NUL", "control", "not NFC"])
@pytest.mark.writes_nothing
def test_what_is_no_user_id_is_refused(user_id: str, score_for: Post) -> None:
    answer = score_for(user_id, 10)

    assert (answer.status_code, code(answer)) == (400, "user_id_invalid")


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


# The command


def issued(*arguments: str) -> str:
    out = StringIO()
    call_command("issue_token", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def test_an_issued_token_works(api: httpx.Client) -> None:
    token = issued("--user", "arena", "--scope", SCOPE, "--days", "90")

    headers = {"Authorization": f"Bearer {token}"}
    answer = api.post("/users/ann/scores/increment", json={"points": 10}, headers=headers)

    assert answer.json() == {"success": True, "newScore": 10}


def test_a_token_is_issued_without_a_scope_unless_one_is_asked_for(api: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {issued('--user', 'ann')}"}

    assert api.post("/users/bob/scores/increment", json={"points": 10}, headers=headers).status_code == 403
    assert api.post("/scores/increment", json={"points": 10}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "arguments",
    [("--user", ""), ("--user", "a\n"), ("--user", "a", "--scope", "root"), ("--user", "a", "--days", "0")],
    ids=["nobody", "control", "scope", "days"],
)
def test_a_token_that_could_not_be_used_is_not_issued(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        issued(*arguments)
