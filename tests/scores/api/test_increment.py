"""POST /scores/increment: what is taken, what is refused, and that the refused leaves no trace."""

from __future__ import annotations

import http.client
import json
import math
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from websockets.sync.client import connect

from scores import services
from scores.access import authentication
from scores.models import MAX_TOTAL, ScoreEvent, UserScore
from tests.conftest import TokenFor
from tests.scores.access.forgery import FORGED, claims, signed
from tests.scores.conftest import Post
from tools.servers import Server

PROBLEM = {"type", "title", "status", "detail", "code"}


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The body of an answer that must be a problem of its own status."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) >= PROBLEM
    assert body["status"] == answer.status_code
    return body


def test_the_answer_has_the_two_keys_of_the_contract(increment: Post) -> None:
    increment("ann", 140)

    answer = increment("ann", 10)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.content == b'{"success":true,"newScore":150}'
    assert answer.headers["X-Leaderboard-Seq"] == "2"


# Who asks


@pytest.mark.writes_nothing
def test_a_request_without_a_token_is_told_that_one_is_missing(api: httpx.Client) -> None:
    answer = api.post("/scores/increment", json={"points": 10})

    assert answer.status_code == 401
    assert problem(answer)["code"] == "not_authenticated"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="leaderboard"'


@pytest.mark.writes_nothing
def test_another_scheme_than_bearer_is_no_token(api: httpx.Client) -> None:
    answer = api.post("/scores/increment", json={"points": 10}, auth=("ann", "secret"))

    assert answer.status_code == 401
    assert problem(answer)["code"] == "not_authenticated"


@pytest.mark.writes_nothing
def test_an_expired_token_is_told_apart_from_an_invalid_one(api: httpx.Client) -> None:
    token = signed(claims(exp=1))

    answer = api.post("/scores/increment", json={"points": 10}, headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 401
    assert problem(answer)["code"] == "token_expired"
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_there_are_many_ways_to_forge_a_token() -> None:
    assert len(FORGED) >= 60


LONG = [pytest.mark.uvicorn("hangs up on a header of this length")]


@pytest.mark.parametrize("name", [pytest.param(n, marks=LONG if n.startswith("of 6") else ()) for n in FORGED])
@pytest.mark.writes_nothing
def test_an_invalid_token_is_a_401_that_says_so(name: str, api: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {FORGED[name]()}".strip()}

    answer = api.post("/scores/increment", json={"points": 10}, headers=headers)

    assert answer.status_code == 401
    assert problem(answer)["code"] == "token_invalid"
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="leaderboard", error="invalid_token"')


def test_a_token_that_was_good_a_moment_ago_expires(api: httpx.Client) -> None:
    """Verified tokens are remembered, but not for longer than they live."""
    for lives_s in (0.3, 3, 10):  # longer, if it was over before it was used: the machine stood still
        expiring = signed(claims(exp=math.ceil(time.time() + lives_s) - authentication.CLOCK_SKEW_S))
        headers = {"Authorization": f"Bearer {expiring}"}
        if (first := api.post("/scores/increment", json={"points": 1}, headers=headers)).status_code == 200:
            break
    assert first.status_code == 200

    deadline = time.monotonic() + 30
    while (answer := api.post("/scores/increment", json={"points": 1}, headers=headers)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert problem(answer)["code"] == "token_expired"


@pytest.mark.writes_nothing
def test_an_expiry_of_true_is_long_past(api: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {signed(claims(exp=True))}"}

    assert api.post("/scores/increment", json={"points": 10}, headers=headers).status_code == 401


@pytest.mark.writes_nothing
def test_a_second_authorization_does_not_hide_behind_the_first(api: httpx.Client) -> None:
    tokens = [("Authorization", f"Bearer {signed(claims(user_id=name))}") for name in ("ann", "bob")]

    assert api.post("/scores/increment", json={"points": 10}, headers=tokens).status_code == 401


# What is asked


@pytest.fixture
def post(api: httpx.Client, token_for: TokenFor) -> Post:
    """Posts bytes as ann."""

    def send(content: bytes | Iterator[bytes], content_type: str | None = "application/json") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token_for('ann')}"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        return api.post("/scores/increment", content=content, headers=headers)

    return send


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "points_required", id="nothing"),
        pytest.param(b" ", "invalid_json", id="a blank"),
        pytest.param(b"[]", "invalid_body", id="a list"),
        pytest.param(b"null", "invalid_body", id="null"),
        pytest.param(b"10", "invalid_body", id="a number"),
        pytest.param(b'"points"', "invalid_body", id="a text"),
        pytest.param(b"{}", "points_required", id="no points"),
        pytest.param(b'{"Points": 10}', "points_required", id="another case"),
        pytest.param(b'{"points": 0}', "points_too_small", id="0"),
        pytest.param(b'{"points": -0}', "points_too_small", id="-0"),
        pytest.param(b'{"points": -1}', "points_too_small", id="-1"),
        pytest.param(b'{"points": 1000001}', "points_too_large", id="one too many"),
        pytest.param(b'{"points": 99999999999999999999}', "points_too_large", id="beyond 64 bits"),
        pytest.param(b'{"points": 10.0}', "points_is_float", id="10.0"),
        pytest.param(b'{"points": 1e3}', "points_is_float", id="1e3"),
        pytest.param(b'{"points": "10"}', "points_is_text", id="text of digits"),
        pytest.param('{"points": "١٠"}'.encode(), "points_is_text", id="text of Arabic digits"),
        pytest.param(b'{"points": true}', "points_is_boolean", id="true"),
        pytest.param(b'{"points": 1e400}', "points_is_float", id="1e400"),
        pytest.param(b'{"points": ""}', "points_is_text", id="empty text"),
        pytest.param(b'{"points": 10}\0', "trailing_text", id="trailing NUL"),
        pytest.param(b'{"points": 1_0}', "invalid_json", id="1_0"),
        pytest.param(b'{"points": +10}', "invalid_json", id="plus"),
        pytest.param(b'{"points": 0x10}', "invalid_json", id="hexadecimal"),
        pytest.param(b'{"points": null}', "points_null", id="points null"),
        pytest.param(b'{"points": [10]}', "points_not_integer", id="points in a list"),
        pytest.param(b'{"points": {"points": 10}}', "points_not_integer", id="points in points"),
        pytest.param(b'{"points": NaN}', "invalid_number", id="NaN"),
        pytest.param(b'{"points": -Infinity}', "invalid_number", id="-Infinity"),
        pytest.param(b'{"points": 1%s}' % (b"0" * 5_000), "number_too_long", id="5001 digits"),
        pytest.param(b'{"points": 10, "points": 20}', "duplicate_key", id="points twice"),
        pytest.param(b'{"points": 10, "p\\u006fints": 20}', "duplicate_key", id="points twice, once escaped"),
        pytest.param(b'{"points": 10} {"points": 20}', "trailing_text", id="two texts"),
        pytest.param(b'{"points": 10};', "trailing_text", id="trailing text"),
        pytest.param(b'{"points": 010}', "invalid_json", id="leading zero"),
        pytest.param(b"{'points': 10}", "invalid_json", id="single quotes"),
        pytest.param(b"points=10", "invalid_json", id="a form in JSON's name"),
        pytest.param(b'\xef\xbb\xbf{"points": 10}', "byte_order_mark", id="byte order mark"),
        pytest.param(b'{"points": 10, "a": "\xff"}', "invalid_utf8", id="not UTF-8"),
        pytest.param('{"points": 10}'.encode("utf-16"), "invalid_utf8", id="UTF-16"),
        pytest.param(b'{"points": %s}' % (b"[" * 1_000), "json_too_deep", id="1000 deep"),
        pytest.param(b'{"a": %s1%s, "points": 10}' % (b"[" * 16, b"]" * 16), "json_too_deep", id="17 deep"),
    ],
)
@pytest.mark.writes_nothing
def test_a_wrong_body_is_a_400_with_a_code_of_its_own(body: bytes, code: str, post: Post) -> None:
    answer = post(body)

    assert answer.status_code == 400
    assert problem(answer)["code"] == code


@pytest.mark.parametrize(
    ("body", "detail", "errors"),
    [
        (b"{}", "This field is required.", {"points": ["This field is required."]}),
        (b'{"points": 1000001}', "Expected at most 1000000.", {"points": ["Expected at most 1000000."]}),
        (b'{"points": null}', "Expected a whole number.", {"points": ["Expected a whole number."]}),
        (b"null", "This field may not be null.", None),
        (
            b"[]",
            "Invalid data. Expected a dictionary, but got list.",
            {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]},
        ),
    ],
)
@pytest.mark.writes_nothing
def test_a_wrong_body_is_explained(body: bytes, detail: str, errors: Any, post: Post) -> None:
    answer = post(body).json()

    assert (answer["detail"], answer.get("errors")) == (detail, errors)


@pytest.mark.writes_nothing
def test_the_problem_of_a_field_names_the_field(post: Post) -> None:
    answer = post(b'{"points": 0}')

    assert problem(answer)["errors"] == {"points": ["Expected at least 1."]}


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param("application/x-www-form-urlencoded", id="form"),
        pytest.param("multipart/form-data; boundary=x", id="multipart", marks=pytest.mark.uvicorn("parses it itself")),
        pytest.param("text/plain", id="text"),
        pytest.param("application/json; charset=utf-16", id="UTF-16"),
        pytest.param("application/json; charset=punycode", id="punycode"),
        pytest.param("json", id="half a type"),
        pytest.param("", id="empty"),
        pytest.param(None, id="missing"),
    ],
)
@pytest.mark.writes_nothing
def test_anything_but_json_in_utf_8_is_a_415(content_type: str | None, post: Post) -> None:
    answer = post(b'{"points": 10}', content_type)

    assert answer.status_code == 415
    assert problem(answer)["code"] == "unsupported_media_type"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'])
def test_json_may_say_that_it_is_utf_8(content_type: str, post: Post) -> None:
    assert post(b'{"points": 10}', content_type).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"points": 10, "comment": "well played", "level": {"name": "\\ud800"}}', id="unknown keys"),
        pytest.param(b' \r\n\t{ "points" : 10 } \n', id="blanks"),
        pytest.param(b'{"a": %s1%s, "points": 10}' % (b"[" * 15, b"]" * 15), id="16 deep"),
        pytest.param(b'{"a": "%s\\"[", "points": 10}' % (b"[{" * 100), id="brackets in a text"),
        pytest.param(b'{"points": 10}' + b" " * (16 * 1024 - 14), id="16 KiB"),
    ],
)
def test_what_does_not_change_the_meaning_is_taken(body: bytes, post: Post) -> None:
    """Unknown keys too: a client that sends more than we read today is not wrong, and a proxy of it may add some."""
    answer = post(body)

    assert (answer.status_code, answer.json()) == (200, {"success": True, "newScore": 10})


def test_the_most_points_are_taken(increment: Post) -> None:
    assert increment("ann", settings.MAX_POINTS).json()["newScore"] == settings.MAX_POINTS


def in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 1_000):
        yield body[start : start + 1_000]


def test_a_body_in_chunks_is_read(post: Post) -> None:
    answer = post(in_chunks(b'{"points": 10}' + b" " * 3_000))

    assert (answer.status_code, answer.json()) == (200, {"success": True, "newScore": 10})


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
@pytest.mark.writes_nothing
def test_a_body_over_16_kib_is_a_413(chunked: bool, post: Post) -> None:
    body = b'{"points": 10}' + b" " * 17_000

    answer = post(in_chunks(body) if chunked else body)

    assert answer.status_code == 413
    assert problem(answer)["code"] == "body_too_large"
    assert answer.headers["Connection"] == "close"


@pytest.mark.uvicorn("reads a body before it asks the application")
@pytest.mark.writes_nothing
def test_a_huge_body_is_refused_before_it_is_sent(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/api/v1/scores/increment")
    connection.putheader("Content-Length", str(60_000_000))
    connection.endheaders()

    answer = connection.getresponse()

    assert answer.status == 413
    connection.close()


# Where it is asked


@pytest.mark.writes_nothing
def test_another_method_is_told_which_one_to_use(api: httpx.Client, token_for: TokenFor) -> None:
    answer = api.get("/scores/increment", headers={"Authorization": f"Bearer {token_for('ann')}"})

    assert answer.status_code == 405
    assert problem(answer)["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("path", ["", "/", "/scores", "/scores/increment/", "/leaderboard/", "/users/", "/nothing"])
@pytest.mark.writes_nothing
def test_an_unknown_address_is_a_problem_too(path: str, server: Server) -> None:
    answer = httpx.post(f"{server.url}/api/v1{path}", json={"points": 10}, verify=False)

    assert answer.status_code == 404
    assert problem(answer)["code"] == "not_found"


@pytest.mark.writes_nothing
def test_a_host_that_is_not_ours_is_refused(increment: Post, api: httpx.Client) -> None:
    api.headers["Host"] = "evil.example.org"

    answer = increment("ann", 10)

    assert answer.status_code == 400
    assert problem(answer)["code"] == "bad_request"


# Asked twice


def test_the_same_key_again_is_the_same_answer_and_counts_once(increment: Post) -> None:
    first = increment("ann", 10, key="match-1")
    increment("ann", 5)

    again = increment("ann", 10, key="match-1")

    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["X-Leaderboard-Seq"] == first.headers["X-Leaderboard-Seq"]
    assert "Idempotency-Replayed" not in first.headers
    assert UserScore.objects.get().score == 15


def test_the_same_key_with_other_points_is_a_mistake(increment: Post) -> None:
    increment("ann", 10, key="match-1")

    answer = increment("ann", 20, key="match-1")

    assert answer.status_code == 422
    assert problem(answer)["code"] == "idempotency_key_reused"
    assert UserScore.objects.get().score == 10


def test_a_key_is_its_users_own(increment: Post) -> None:
    increment("ann", 10, key="match-1")

    answer = increment("bob", 20, key="match-1")

    assert answer.json() == {"success": True, "newScore": 20}
    assert "Idempotency-Replayed" not in answer.headers


def test_keys_differ_by_case(increment: Post) -> None:
    increment("ann", 10, key="a")

    assert increment("ann", 10, key="A").json()["newScore"] == 20


@pytest.mark.parametrize(
    "key", [pytest.param("", id="empty"), "two words", "a\tb", "é", pytest.param("k" * 256, id="256 characters")]
)
@pytest.mark.writes_nothing
def test_a_key_that_is_none_is_refused(key: str, api: httpx.Client, token_for: TokenFor) -> None:
    headers = [(b"Authorization", f"Bearer {token_for('ann')}".encode()), (b"Idempotency-Key", key.encode())]

    answer = api.post("/scores/increment", json={"points": 10}, headers=headers)

    assert answer.status_code == 400
    assert problem(answer)["code"] == "idempotency_key_invalid"


@pytest.mark.parametrize("key", ["!", "~" * 255], ids=["shortest", "longest"])
def test_a_key_is_any_visible_ascii(key: str, increment: Post) -> None:
    assert increment("ann", 10, key=key).status_code == 200
    assert increment("ann", 10, key=key).headers["Idempotency-Replayed"] == "true"


def test_a_hundred_at_once_with_one_key_count_once(increment: Post) -> None:
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: increment("ann", 10, key="match-1"), range(100)))

    assert {(a.status_code, a.content) for a in answers} == {(200, b'{"success":true,"newScore":10}')}
    assert sum("Idempotency-Replayed" not in a.headers for a in answers) == 1
    assert ScoreEvent.objects.count() == 1


def test_fifty_at_once_without_a_key_count_fifty_times(increment: Post) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: increment("ann", 1), range(50)))

    assert sorted(a.json()["newScore"] for a in answers) == list(range(1, 51))


def test_a_key_outlives_the_process_that_took_it(
    server: Server, increment: Post, token_for: TokenFor, tmp_path: Path
) -> None:
    first = increment("ann", 10, key="match-1")
    increment("ann", 5)

    restarted = Server(log=tmp_path / "log", env={"DATABASE_URL": server.env["DATABASE_URL"]}).start()
    headers = {"Authorization": f"Bearer {token_for('ann')}", "Idempotency-Key": "match-1"}
    again = httpx.post(f"{restarted.url}/api/v1/scores/increment", json={"points": 10}, headers=headers)
    restarted.stop()

    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert UserScore.objects.get().score == 15


def test_who_hung_up_before_the_answer_retries_and_it_counts_once(
    server: Server, increment: Post, token_for: TokenFor
) -> None:
    """Some of these arrive, some do not, and no client knows which: that is what keys are for."""
    body = b'{"points": 10}'
    head = f"POST /api/v1/scores/increment HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token_for('ann')}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    for number in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            whole = f"{head}Idempotency-Key: match-{number}\r\n\r\n".encode() + body
            line.sendall(whole[: len(whole) - number % 4 * 5])  # every fourth is whole

    retries = [increment("ann", 10, key=f"match-{number}") for number in range(20)]

    assert {answer.status_code for answer in retries} == {200}
    assert UserScore.objects.get().score == 200
    assert ScoreEvent.objects.count() == 20


def test_a_blocked_user_s_replay_is_answered_as_before(increment: Post) -> None:
    first = increment("ann", 10, key="match-1")
    services.block(user_id="ann", actor="test", reason="test")

    assert increment("ann", 10, key="match-1").content == first.content
    assert problem(increment("ann", 10, key="match-2"))["code"] == "user_blocked"


def test_a_database_that_does_not_confirm_is_a_503_and_its_retry_is_exact(
    increment: Post, rival: BaseDatabaseWrapper
) -> None:
    increment("ann", 5)
    with rival.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM leaderboards FOR UPDATE")
        answer = increment("ann", 10, key="match-1")
        cursor.execute("ROLLBACK")

    assert answer.status_code == 503
    assert problem(answer)["code"] == "outcome_unknown"
    assert answer.headers["Retry-After"] == "1"
    assert increment("ann", 10, key="match-1").json() == {"success": True, "newScore": 15}
    assert increment("ann", 10, key="match-1").json() == {"success": True, "newScore": 15}


def test_what_the_database_refuses_is_a_503_that_shows_nobodys_row(
    increment: Post, server: Server, rival: BaseDatabaseWrapper
) -> None:
    increment("ann", 4711)
    with rival.cursor() as cursor:
        cursor.execute("ALTER TABLE user_scores ADD CONSTRAINT odd CHECK (score < 1) NOT VALID")
        refused = [increment("ann", 1) for _ in range(3)]
        cursor.execute("ALTER TABLE user_scores DROP CONSTRAINT odd")

    assert [(answer.status_code, problem(answer)["code"]) for answer in refused] == [(503, "unavailable")] * 3
    assert refused[0].headers["Retry-After"] == "1"
    told = server.log.read_text()
    assert told.count("The database does not record changes: 23514 CheckViolation") == 1
    assert "Failing row" not in told
    assert increment("ann", 1).json()["newScore"] == 4712


# The end of the scale


def test_a_total_can_reach_the_cap_and_not_pass_it(increment: Post) -> None:
    services.correct(user_id="ann", total=MAX_TOTAL - 10, actor="admin", reason="a long career")
    assert increment("ann", 10).json()["newScore"] == 9_007_199_254_740_991

    answer = increment("ann", 1)

    assert answer.status_code == 409
    assert problem(answer)["code"] == "total_too_large"
    assert UserScore.objects.get().score == MAX_TOTAL
    assert ScoreEvent.objects.count() == 2


def test_the_cap_is_shown_to_the_last_digit(increment: Post, api: httpx.Client) -> None:
    services.correct(user_id="ann", total=MAX_TOTAL, actor="admin", reason="a long career")
    services.correct(user_id="bob", total=MAX_TOTAL - 1, actor="admin", reason="a long career")
    increment("cid", 1)  # by the server, which has the copy caught up before it answers

    board = api.get("/leaderboard")

    assert board.headers["X-Leaderboard-Source"] == "redis"
    assert [e["score"] for e in board.json()["leaderboard"]] == [9_007_199_254_740_991, 9_007_199_254_740_990, 1]


# Who may not


def test_a_blocked_user_is_refused_and_does_not_come_back(increment: Post, api: httpx.Client) -> None:
    increment("ann", 10)
    services.block(user_id="ann", actor="admin", reason="speed hack")

    answer = increment("ann", 10)
    increment("bob", 5)

    assert answer.status_code == 403
    assert problem(answer)["code"] == "user_blocked"
    assert [e["userId"] for e in api.get("/leaderboard").json()["leaderboard"]] == ["bob"]
    assert UserScore.objects.get(user_id="ann").score == 10


# Whom it is for

NAMES = [
    pytest.param("ann lee", id="space"),
    pytest.param(" ann ", id="outer spaces"),
    pytest.param("🏆👩‍🚀", id="emoji"),
    pytest.param("‮אבג‬", id="right to left"),
    pytest.param("a/b", id="slash"),
    pytest.param("/ann", id="leading slash"),
    pytest.param("a//b/", id="slashes"),
    pytest.param("a?b=c&d#e", id="query"),
    pytest.param("100%25", id="percent"),
    pytest.param("a+b", id="plus"),
    pytest.param('"<b>\\', id="markup"),
    pytest.param("line\u2028separator", id="line separator"),
    pytest.param("standing", id="our own word"),
    pytest.param("9007199254740992.5", id="number"),
    pytest.param("x" * 255, id="255 letters"),
    pytest.param("𝕏" * 255, id="255 characters of 4 bytes"),
]


@pytest.mark.parametrize("user_id", NAMES)
def test_a_user_id_is_the_same_everywhere(user_id: str, server: Server, api: httpx.Client, increment: Post) -> None:
    with connect(server.ws_url) as socket:
        socket.recv(timeout=30)

        scored = increment(user_id, 10)

        assert (scored.status_code, scored.json()) == (200, {"success": True, "newScore": 10})
        standing = api.get(f"/users/{quote(user_id, safe='')}")
        assert (standing.status_code, standing.json()["userId"], standing.json()["rank"]) == (200, user_id, 1)
        assert [e["userId"] for e in api.get("/leaderboard").json()["leaderboard"]] == [user_id]
        while not (frame := json.loads(socket.recv(timeout=30)))["leaderboard"]:
            pass  # the empty board again, with an age: the server stood still
        assert frame["leaderboard"] == [{"userId": user_id, "score": 10}]
