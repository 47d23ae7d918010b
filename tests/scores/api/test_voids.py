"""POST /events/{eventId}/void: what was counted is taken back."""

from __future__ import annotations

import httpx
import pytest
from redis import Redis

from scores import services
from scores.log.audit import wrong_totals
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Board, ScoreEvent
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.conftest import Post, copy_is_true, hooks_lost

SCOPE = "events:void"


@pytest.fixture
def void(api: httpx.Client, token_for: TokenFor) -> Post:
    """`void(1)`, or `void(1, scope="", body={…})`."""

    def post(event_id: object, *, scope: str = SCOPE, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token_for('bot', scope=scope)}"}
        return api.post(f"/events/{event_id}/void", json=body or {"reason": "cheated"}, headers=headers)

    return post


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def score_of(api: httpx.Client, user_id: str) -> int:
    return int(api.get(f"/users/{user_id}").json()["score"])


def test_an_increment_is_taken_back(increment: Post, void: Post, api: httpx.Client, redis: Redis) -> None:
    increment("ann", 5)
    increment("ann", 7)

    answer = void(1)

    assert (answer.status_code, answer.json()) == (200, {"success": True, "eventId": "3"})
    assert score_of(api, "ann") == 7
    event = ScoreEvent.objects.get(seq=3)
    assert (event.voids, event.points, event.total, event.actor, event.reason) == (1, -5, 7, "service:bot", "cheated")
    assert wrong_totals(log) == []
    until(lambda: copy_is_true(redis))


def test_it_is_taken_back_once(increment: Post, void: Post, api: httpx.Client) -> None:
    increment("ann", 5)
    void(1)

    assert code(void(1)) == (409, "already_voided")
    assert code(void(2)) == (409, "not_voidable")
    assert score_of(api, "ann") == 0


def test_a_replay_of_its_key_answers_as_before(increment: Post, void: Post) -> None:
    first = increment("ann", 5, key="a")
    void(1)

    again = increment("ann", 5, key="a")

    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")


def test_what_a_correction_has_set_stays(increment: Post, void: Post, api: httpx.Client) -> None:
    increment("ann", 5)
    services.correct(user_id="ann", total=3, actor="mod", reason="a test")
    increment("ann", 1)

    assert void(1).status_code == 200
    assert score_of(api, "ann") == 4
    assert void(3).status_code == 200
    assert score_of(api, "ann") == 3
    assert wrong_totals(log) == []


def test_an_event_of_somebody_blocked_is_voided_out_of_sight(
    increment: Post, void: Post, api: httpx.Client, redis: Redis
) -> None:
    increment("ann", 5)
    services.block(user_id="ann", actor="mod", reason="a test")

    assert void(1).status_code == 200

    assert api.get("/users/ann").status_code == 404
    until(lambda: copy_is_true(redis))
    services.unblock(user_id="ann", actor="mod", reason="a test")
    assert score_of(api, "ann") == 0


def test_a_copy_that_missed_it_catches_up(copy: Redis) -> None:
    with hooks_lost():
        writer.record([Change(Kind.INCREMENT, "ann", 5), Change(Kind.INCREMENT, "bob", 5), Change(Kind.BLOCK, "bob")])
        services.void_each([1, 2], actor="mod", reason="a test")
    from scores.projection.leaderboard import leaderboard

    leaderboard.catch_up(log.head())

    assert copy_is_true(copy)
    assert copy.zscore("leaderboard", "ann") == 0


def test_a_score_is_taken_back_without_a_total(void: Post, board: None) -> None:
    Board.objects.create(name="laps", fold="best", stream="laps")
    writer.record([Change(Kind.SCORE, "ann", 9, stream="laps")])

    assert void(1).status_code == 200

    event = ScoreEvent.objects.get(seq=2)
    assert (event.stream, event.voids, event.total) == ("laps", 1, 0)


@pytest.mark.parametrize("event_id", ["2", "0", "-1", "01", "x", "9" * 18, "9" * 40, "1.0", "%F0%9F%8F%86", "%00"])
def test_there_is_no_such_event(event_id: str, increment: Post, void: Post) -> None:
    increment("ann", 5)

    assert code(void(event_id)) == (404, "unknown_event")


@pytest.mark.writes_nothing
def test_without_the_scope_nobody_voids(void: Post) -> None:
    answer = void(1, scope="scores:write:any")

    assert code(answer) == (403, "insufficient_scope")
    assert 'scope="events:void"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("text", ["[]", "[1]", "0", "false", '""', "null"])
def test_a_body_that_is_no_object_voids_nothing(
    text: str, increment: Post, api: httpx.Client, token_for: TokenFor
) -> None:
    increment("ann", 5)
    headers = {"Authorization": f"Bearer {token_for('bot', scope=SCOPE)}", "Content-Type": "application/json"}

    assert code(api.post("/events/1/void", content=text, headers=headers)) == (400, "invalid_body")
    assert score_of(api, "ann") == 5


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"reason": 1}, "reason_is_no_text"),
        ({"reason": "x" * 501}, "reason_too_long"),
        ({"reason": "\0"}, "reason_invalid"),
    ],
)
@pytest.mark.writes_nothing
def test_a_reason_is_a_text(void: Post, body: object, expected: str) -> None:
    assert code(void(1, body=body)) == (400, expected)


@pytest.mark.parametrize("text", ["", "{}", '{"reason": ""}'])
def test_the_reason_may_be_missing(text: str, increment: Post, api: httpx.Client, token_for: TokenFor) -> None:
    increment("ann", 5)
    headers = {"Authorization": f"Bearer {token_for('bot', scope=SCOPE)}", "Content-Type": "application/json"}

    assert api.post("/events/1/void", content=text, headers=headers).status_code == 200


def test_nor_need_there_be_a_type_of_no_body(increment: Post, api: httpx.Client, token_for: TokenFor) -> None:
    increment("ann", 5)

    answer = api.post("/events/1/void", headers={"Authorization": f"Bearer {token_for('bot', scope=SCOPE)}"})

    assert answer.status_code == 200


def test_many_are_taken_back_at_once_and_each_has_its_answer(board: None) -> None:
    writer.record([Change(Kind.INCREMENT, f"user{n}", 1) for n in range(600)])

    outcomes = services.void_each([*range(1, 512), 1], actor="mod", reason="a test")

    assert [getattr(outcome, "seq", None) for outcome in outcomes[:-1]] == list(range(601, 1112))
    assert getattr(outcomes[-1], "code", "") == "already_voided"
    assert wrong_totals(log) == []
