"""POST /boards/{board}/scores: numbers that are no points."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from scores import services
from scores.boards import definitions
from scores.boards.documents import parse
from scores.models import Board, ScoreEvent, UserScore
from tests.conftest import TokenFor
from tests.scores.conftest import Post, nothing_was_written

MOST = 2**53 - 1
SCOPE = "scores:write:any"


@pytest.fixture
def laps(board: None) -> Board:
    """A board of lap times: the lowest is the best."""
    return Board.objects.create(name="laps", fold="best", order="lower", stream="laps")


@pytest.fixture
def submit(api: httpx.Client, token_for: TokenFor) -> Post:
    """`submit("ann", 83211)`, with an Idempotency-Key: `submit("ann", 83211, key="a")`, or `submit("ann", body={…})`."""

    def post(
        user_id: str, score: object = None, *, board: str = "laps", key: str | None = None, body: Any = None
    ) -> Any:
        headers = {"Authorization": f"Bearer {token_for(user_id)}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return api.post(f"/boards/{board}/scores", json={"score": score} if body is None else body, headers=headers)

    return post


@pytest.fixture
def submit_for(api: httpx.Client, token_for: TokenFor) -> Callable[..., httpx.Response]:
    """As a game server: `submit_for("ann", 83211)`."""

    def post(user_id: str, score: object, *, scope: str = SCOPE, board: str = "laps") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token_for('arena', scope=scope)}"}
        address = f"/boards/{board}/users/{quote(user_id, safe='')}/scores"
        return api.post(address, json={"score": score}, headers=headers)

    return post


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_between_two_seasons_no_score_is_taken_that_would_count_nowhere(board: None, submit: Post) -> None:
    now = datetime.now(UTC)
    moments = [(now + timedelta(hours=hours)).isoformat() for hours in (-3, -2, 2, 3)]
    seasons = [{"startsAt": moments[0], "endsAt": moments[1]}, {"startsAt": moments[2], "endsAt": moments[3]}]
    fields = {"name": "laps", "fold": "best", "order": "lower", "stream": True}
    definitions.create(parse(fields | {"period": "season", "seasons": seasons}))

    assert code(submit("ann", 83211)) == (409, "board_not_open")
    assert nothing_was_written()

    definitions.create(parse(fields | {"name": "ever", "stream": "laps"}))
    assert submit("ann", 83211).status_code == 200
    definitions.delete("ever")
    assert code(submit("ann", 83210)) == (409, "board_not_open")
    open_now = [{"startsAt": moments[0], "endsAt": moments[2]}]
    definitions.create(parse(fields | {"name": "runs", "period": "season", "seasons": open_now}))
    assert submit("ann", 83210, board="runs").status_code == 200
    definitions.archive("laps")
    assert code(submit("ann", 83209)) == (409, "board_archived")


@pytest.mark.parametrize("score", [83211, 0, -1, MOST, -MOST])
def test_a_score_is_recorded_and_touches_no_total(laps: Board, submit: Post, score: int) -> None:
    answer = submit("ann", score)

    assert answer.json() == {"success": True, "eventId": "1", "board": "laps", "score": score}
    assert answer.headers["X-Leaderboard-Seq"] == "1"
    event = ScoreEvent.objects.get()
    assert (event.kind, event.user_id, event.points, event.total, event.stream) == ("score", "ann", score, 0, "laps")
    assert not UserScore.objects.exists()


def test_the_default_board_does_not_notice(laps: Board, submit: Post, increment: Post, api: httpx.Client) -> None:
    increment("ann", 5)
    submit("ann", 83211)
    submit("bob", 1)

    answer = api.get("/leaderboard").json()

    assert (answer["leaderboard"], answer["total"]) == ([{"rank": 1, "userId": "ann", "score": 5}], 1)


def test_a_retry_is_not_counted_twice_and_keys_are_one_space(laps: Board, submit: Post, increment: Post) -> None:
    first = submit("ann", 83211, key="a")
    again = submit("ann", 83211, key="a")

    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert code(submit("ann", 83212, key="a")) == (422, "idempotency_key_reused")
    assert code(increment("ann", 83211, key="a")) == (422, "idempotency_key_reused")
    assert increment("ann", 7, key="b").status_code == 200
    assert code(submit("ann", 7, key="b")) == (422, "idempotency_key_reused")
    assert ScoreEvent.objects.count() == 2


def test_a_replay_is_answered_when_the_board_is_gone(laps: Board, submit: Post) -> None:
    first = submit("ann", 5, key="a")
    definitions.delete("laps")  # not by the ORM: the follower may write a row that refers to it

    assert submit("ann", 5, key="a").json() == first.json()
    assert code(submit("ann", 6)) == (404, "board_unknown")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "score_required"),
        ({"score": None}, "score_null"),
        ({"score": "1"}, "score_is_text"),
        ({"score": 1.0}, "score_is_float"),
        ({"score": True}, "score_is_boolean"),
        ({"score": [1]}, "score_not_integer"),
        ({"score": MOST + 1}, "score_too_large"),
        ({"score": -MOST - 1}, "score_too_small"),
        ([], "invalid_body"),
        ({"score": 1, "metadata": "x" * 1023}, "metadata_too_large"),
        ({"score": 1, "metadata": {"car": "ü" * 520}}, "metadata_too_large"),
    ],
)
@pytest.mark.writes_nothing
def test_what_is_no_score_is_refused_by_name(submit: Post, body: Any, expected: str) -> None:
    assert code(submit("ann", body=body)) == (400, expected)
    assert nothing_was_written()


@pytest.mark.parametrize("text", ['{"score":1,"metadata":1e999}', '{"score":1,"metadata":"\\ud800"}'])
@pytest.mark.writes_nothing
def test_metadata_that_parsers_read_differently_is_refused(api: httpx.Client, token_for: TokenFor, text: str) -> None:
    headers = {"Authorization": f"Bearer {token_for('ann')}", "Content-Type": "application/json"}

    answer = api.post("/boards/laps/scores", content=text, headers=headers)

    assert code(answer) == (400, "metadata_invalid")


@pytest.mark.parametrize("metadata", [{"car": "Käfer", "nul": "\0"}, "x" * 1022, [1, 2.5, None], 0, False])
def test_metadata_is_kept_with_the_event(laps: Board, submit: Post, metadata: Any) -> None:
    assert submit("ann", body={"score": 1, "metadata": metadata}).status_code == 200

    assert json.loads(ScoreEvent.objects.get().metadata or "") == metadata


@pytest.mark.parametrize(
    ("fields", "score", "expected"),
    [
        ({"archived_at": "2026-01-01T00:00Z"}, 5, (409, "board_archived")),
        ({"submitters": "services"}, 5, (403, "only_game_servers")),
        ({"least": 6}, 5, (400, "score_out_of_range")),
        ({"most": 4}, 5, (400, "score_out_of_range")),
        ({"fold": "sum"}, 0, (400, "score_out_of_range")),
        ({"stream": None}, 5, (409, "board_has_no_stream")),
    ],
)
def test_a_board_says_what_it_takes(
    laps: Board, submit: Post, fields: dict[str, Any], score: int, expected: tuple[int, str]
) -> None:
    Board.objects.update(**fields)

    assert code(submit("ann", score)) == expected
    assert nothing_was_written()


@pytest.mark.parametrize("name", ["nothing", "LAPS", "a%00b", "x" * 200, "%F0%9F%8F%86", "laps%2F"])
def test_there_is_no_such_board(laps: Board, submit: Post, name: str) -> None:
    assert submit("ann", 5, board=name).status_code == 404
    assert nothing_was_written()


def test_the_default_board_takes_points_only(laps: Board, submit: Post, submit_for: Post) -> None:
    for answer in (submit("ann", 5, board="leaderboard"), submit_for("ann", 5, board="leaderboard")):
        assert code(answer) == (409, "board_has_no_stream")
        assert "/api/v1/scores/increment" in answer.json()["detail"]
    assert nothing_was_written()
    submit("ann", 5, key="a")
    assert code(submit("ann", 5, board="leaderboard", key="a")) == (422, "idempotency_key_reused")


def test_a_blocked_player_submits_nothing(laps: Board, submit: Post) -> None:
    services.block(user_id="ann", actor="mod", reason="a test")

    assert code(submit("ann", 5)) == (403, "user_blocked")
    assert not UserScore.objects.exists()  # neither a block nor an unblock makes one
    services.unblock(user_id="ann", actor="mod", reason="a test")
    assert submit("ann", 5).status_code == 200
    assert not UserScore.objects.exists()


@pytest.mark.parametrize("user_id", ["ann", "a/b", "🏆", "a/scores", "100%25", " ann "])
def test_a_game_server_submits_for_its_players(laps: Board, submit_for: Post, user_id: str) -> None:
    Board.objects.update(submitters="services")

    assert submit_for(user_id, 5).status_code == 200

    event = ScoreEvent.objects.get()
    assert (event.user_id, event.actor) == (user_id, "service:arena")


@pytest.mark.parametrize(
    ("user_id", "scope", "expected"),
    [
        ("ann", "", (403, "insufficient_scope")),
        ("service:x", SCOPE, (400, "user_id_invalid")),
        ("a\nb", SCOPE, (400, "user_id_invalid")),
        ("x" * 256, SCOPE, (400, "user_id_invalid")),
    ],
)
@pytest.mark.writes_nothing
def test_a_game_server_is_told_what_is_wrong(submit_for: Post, user_id: str, scope: str, expected: Any) -> None:
    assert code(submit_for(user_id, 5, scope=scope)) == expected


@pytest.mark.writes_nothing
def test_a_slash_in_an_id_is_sent_encoded(api: httpx.Client, token_for: TokenFor) -> None:
    headers = {"Authorization": f"Bearer {token_for('arena', scope=SCOPE)}"}

    answer = api.post("/boards/laps/users/a/b/scores", json={"score": 1}, headers=headers)

    assert code(answer) == (404, "not_found")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("/boards/laps/scores", "POST, OPTIONS"),
        ("/boards/laps/users/ann/scores", "GET, POST, HEAD, OPTIONS"),  # an id may end in /scores
    ],
)
@pytest.mark.writes_nothing
def test_other_methods_are_named(api: httpx.Client, token_for: TokenFor, address: str, allowed: str) -> None:
    answer = api.put(address, headers={"Authorization": f"Bearer {token_for('ann', scope=SCOPE)}"})

    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert api.post(address, json={"score": 1}).status_code == 401


@pytest.mark.writes_nothing
def test_a_service_has_no_score_of_its_own(api: httpx.Client, token_for: TokenFor) -> None:
    headers = {"Authorization": f"Bearer {token_for('arena', scope=SCOPE)}"}

    answer = api.post("/boards/laps/scores", json={"score": 5}, headers=headers)

    assert code(answer) == (403, "service_has_no_score")
    assert "/api/v1/boards/{board}/users/{userId}/scores" in answer.json()["detail"]
