"""POST /scores/batch: many changes in one request, each with its own answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from scores import service_tokens, services
from scores.access.authentication import PREFIX_LENGTH
from scores.entries import MAX_BYTES, MAX_ENTRIES
from scores.models import Action, Board, ScoreEvent, UserScore
from tests.conftest import TokenFor
from tests.scores.conftest import nothing_was_written

SCOPE = "scores:batch"
NDJSON = {"Content-Type": "application/x-ndjson"}
Batch = Callable[..., httpx.Response]


@pytest.fixture
def batch(api: httpx.Client, token_for: TokenFor) -> Batch:
    """As a game server: `batch([{…}, {…}])`, or with the bytes of a body: `batch(b"…")`."""

    def post(entries: Any, *, scope: str = SCOPE, token: str = "", headers: dict[str, str] | None = None) -> Any:
        content = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        authorization = {"Authorization": f"Bearer {token or token_for('arena', scope=scope)}"}
        return api.post(
            "/scores/batch",
            content=content,
            headers={"Content-Type": "application/json"} | authorization | (headers or {}),
        )

    return post


def codes(answer: httpx.Response) -> list[Any]:
    """Of each entry: its new score, or the code of its refusal."""
    return [result.get("newScore", result.get("code")) for result in answer.json()["results"]]


def points(user_id: str, number: object, key: str | None = None) -> dict[str, Any]:
    return {"userId": user_id, "points": number} | ({} if key is None else {"key": key})


def test_each_entry_has_its_answer_in_order(batch: Batch) -> None:
    Action.objects.create(name="quest", points=7)
    Board.objects.create(name="laps", fold="best", order="lower", stream="laps")

    answer = batch(
        [
            points("ann", 10, "a"),
            {"userId": "bob", "action": "quest", "key": "b"},
            {"userId": "ann", "board": "laps", "score": 83211, "metadata": {"car": "roadster"}, "key": "c"},
            points("ann", 5),
        ]
    )

    assert answer.status_code == 200
    assert answer.json() == {
        "recorded": 4,
        "refused": 0,
        "results": [
            {"success": True, "newScore": 10, "seq": 1},
            {"success": True, "newScore": 7, "seq": 2},
            {"success": True, "newScore": 83211, "seq": 3},
            {"success": True, "newScore": 15, "seq": 4},
        ],
    }
    assert answer.headers["X-Leaderboard-Position"].endswith(".4")
    assert set(ScoreEvent.objects.values_list("actor", flat=True)) == {"service:arena"}
    assert ScoreEvent.objects.get(seq=3).metadata == '{"car":"roadster"}'


def test_a_retry_of_the_whole_counts_once_what_has_a_key(batch: Batch) -> None:
    entries = [points(f"user-{number % 7}", number + 1, f"match-{number}") for number in range(600)]

    first, again = batch(entries), batch(entries)

    assert codes(again) == codes(first)
    assert [result["seq"] for result in again.json()["results"]] == list(range(1, 601))
    assert all(result["replayed"] for result in again.json()["results"])
    assert sum(UserScore.objects.values_list("score", flat=True)) == sum(range(1, 601))


def test_a_key_twice_in_one_batch_counts_once(batch: Batch) -> None:
    assert codes(
        batch([points("ann", 3, "k"), points("ann", 3, "k"), points("ann", 4, "k"), points("bob", 3, "k")])
    ) == [
        3,
        3,
        "idempotency_key_reused",
        3,
    ]


REFUSED: list[tuple[Any, str]] = [
    (points("ann", 10.5), "points_is_float"),
    (points("ann", "10"), "points_is_text"),
    (points("ann", True), "points_is_boolean"),
    (points("ann", 0), "points_too_small"),
    (points("ann", 10**15), "points_too_large"),
    ({"userId": "ann"}, "points_required"),
    ({"points": 1}, "user_id_invalid"),
    (points("service:arena", 1), "user_id_invalid"),
    (points("a/../b", 1), "user_id_invalid"),
    (points("nul\0", 1), "user_id_invalid"),
    (points("ann", 1, ""), "idempotency_key_invalid"),
    (points("ann", 1, "ä"), "idempotency_key_invalid"),
    ({"userId": "ann", "points": 1, "key": None}, "idempotency_key_invalid"),
    ({"userId": "ann", "points": 1, "key": 7}, "idempotency_key_invalid"),
    ({"userId": "ann", "points": 1, "idempotencyKey": "k"}, "unknown_field"),
    ({"userId": "ann", "points": 1, "metadata": {}}, "unknown_field"),
    ({"userId": "ann", "points": 1, "action": "quest"}, "points_and_action"),
    ({"userId": "ann", "points": 1, "board": "laps"}, "points_and_score"),
    ({"userId": "ann", "action": "no such"}, "action_invalid"),
    ({"userId": "ann", "action": "none"}, "unknown_action"),
    ({"userId": "ann", "score": 1}, "board_required"),
    ({"userId": "ann", "board": "laps"}, "score_required"),
    ({"userId": "ann", "board": "none", "score": 1}, "board_unknown"),
    ({"userId": "ann", "board": "NONE", "score": 1}, "board_unknown"),
    ({"userId": "ann", "board": "leaderboard", "score": 1}, "board_has_no_stream"),
    ({"userId": "ann", "board": "laps", "score": 1, "metadata": "x" * 1_100}, "metadata_too_large"),
    ([], "invalid_body"),
    (None, "invalid_body"),
    (7, "invalid_body"),
]  # fmt: skip


def test_what_is_refused_fails_alone(batch: Batch) -> None:
    Board.objects.create(name="laps", fold="best", order="lower", stream="laps")
    entries = [entry for pair in ((refused, points("bob", 1)) for refused, _ in REFUSED) for entry in pair]

    answer = batch(entries)

    assert codes(answer) == [told for n, (_, code) in enumerate(REFUSED) for told in (code, n + 1)]
    assert (answer.json()["recorded"], answer.json()["refused"]) == (len(REFUSED), len(REFUSED))
    assert {result["status"] for result in answer.json()["results"] if not result["success"]} == {400, 404, 409}


def test_a_blocked_player_and_a_cooldown_refuse_their_entries_only(batch: Batch) -> None:
    Action.objects.create(name="quest", points=7, cooldown_s=3_600)
    services.block(user_id="eve", actor="root", reason="")
    quest = {"userId": "ann", "action": "quest"}

    answer = batch([quest, quest, points("eve", 1), points("bob", 1)])

    assert codes(answer) == [7, "action_cooling_down", "user_blocked", 1]
    told = answer.json()["results"][1]
    assert (told["status"], told["retryAfter"]) == (429, 3_600)


def test_ndjson_is_an_entry_a_line_and_a_broken_line_fails_alone(batch: Batch) -> None:
    lines = [json.dumps(points("ann", 1)).encode(), b"", b"{", b'{"a":1,"a":2}', b"\xff", b"[" * 40, b" \r"]
    lines += [b'{"userId":"ann","points":NaN}', json.dumps(points("ann", 2)).encode() + b"\r"]

    answer = batch(b"\n".join(lines), headers=NDJSON)

    assert codes(answer) == [1, "invalid_json", "duplicate_key", "invalid_utf8", "json_too_deep", "invalid_number", 3]
    assert codes(batch(json.dumps(points("ann", 2)).encode() + b"\n", headers=NDJSON)) == [5]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_body"),
        (b"{}", 400, "invalid_body"),
        (b"7", 400, "invalid_body"),
        (b"[]", 400, "entries_out_of_range"),
        (b"[" + b",".join([b"0"] * (MAX_ENTRIES + 1)) + b"]", 400, "entries_out_of_range"),
        (b'[{"userId":"ann","points":1},', 400, "invalid_json"),
        (b"[" * 300 + b"]" * 300, 400, "json_too_deep"),
        (b" " * (MAX_BYTES + 1), 413, "body_too_large"),
    ],
)
def test_a_body_that_is_no_batch_is_refused_as_a_whole(batch: Batch, body: bytes, status: int, code: str) -> None:
    answer = batch(body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert nothing_was_written()


def test_a_batch_of_the_largest_size_is_taken(batch: Batch) -> None:
    entries = [points(f"{number:x<200}", 1, f"{number}") for number in range(MAX_ENTRIES)]
    body = json.dumps(entries).encode()
    body += b" " * (MAX_BYTES - len(body))

    answer = batch(body)

    assert codes(answer) == [1] * MAX_ENTRIES
    assert UserScore.objects.count() == MAX_ENTRIES


@pytest.mark.parametrize("scope", [None, "scores:write:any", "events:void"])
def test_a_batch_needs_its_scope(batch: Batch, token_for: TokenFor, scope: str | None) -> None:
    answer = batch([points("ann", 1)], token=token_for("ann", scope=scope))

    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    assert f'scope="{SCOPE}"' in answer.headers["WWW-Authenticate"]
    assert nothing_was_written()


def test_a_revoked_token_is_told_nothing_else(batch: Batch) -> None:
    issued = service_tokens.issue(name="arena", scopes=[SCOPE], days=1, created_by="root")
    assert codes(batch([points("ann", 1)], token=issued.secret)) == [1]
    service_tokens.revoke(issued.secret[:PREFIX_LENGTH])

    answer = batch([points("ann", 1), points("bob", "x")], token=issued.secret)

    assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")
    assert ScoreEvent.objects.count() == 1


def test_without_a_token_there_is_no_batch(api: httpx.Client) -> None:
    answer = api.post("/scores/batch", json=[points("ann", 1)])

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_many_batches_at_once_count_each_entry_once(server: Any, board: None, token_for: TokenFor) -> None:
    authorization = {"Authorization": f"Bearer {token_for('arena', scope=SCOPE)}"}

    async def post_all() -> Sequence[httpx.Response]:
        async with httpx.AsyncClient(base_url=f"{server.url}/api/v1", verify=False, timeout=30) as client:
            bodies = [[points(f"user-{n}", 1, f"{who}-{n}") for n in range(100)] for who in range(6)] * 2
            return await asyncio.gather(
                *(client.post("/scores/batch", json=body, headers=authorization) for body in bodies)
            )

    answers = asyncio.run(post_all())

    assert {answer.status_code for answer in answers} == {200}
    assert sorted(UserScore.objects.values_list("score", flat=True)) == [6] * 100
