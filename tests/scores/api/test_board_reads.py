"""/boards/{board}: pages, places and periods, for whoever may see them."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django.core.management import call_command
from redis import Redis

from scores import service_tokens
from scores.boards import definitions
from scores.boards.documents import parse
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.conftest import be_ahead

HEADERS = ["source", "seq", "position", "age"]


def make(name: str = "weekly", **fields: Any) -> None:
    definitions.create(parse({"name": name, "fold": "sum"} | fields))


def add(user_id: str, points: int = 1) -> None:
    (outcome,) = writer.record([Change(Kind.INCREMENT, user_id, points)])
    assert not isinstance(outcome, Exception)


def submit(user_id: str, score: int, board: str = "laps", **fields: Any) -> None:
    (outcome,) = writer.record([Change(Kind.SCORE, user_id, score, stream=board, **fields)])
    assert not isinstance(outcome, Exception)


def settled(api: httpx.Client, address: str, source: str = "redis", **headers: str) -> httpx.Response:
    """The answer as of the end of the log."""
    seq = str(log.head().seq)
    answers: list[httpx.Response] = []

    def is_settled() -> bool:
        answer = api.get(address, headers=headers)
        assert answer.status_code in (200, 404, 503), answer.text
        answers.append(answer)
        told = answer.headers
        return (told.get("X-Leaderboard-Seq"), told.get("X-Leaderboard-Source")) == (seq, source)

    until(is_settled)
    return answers[-1]


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_a_new_board_is_built_and_never_an_error(api: httpx.Client) -> None:
    add("ann", 5)
    make()

    while (answer := api.get("/boards/weekly")).status_code != 200:
        assert code(answer) == (503, "board_building")
        assert answer.headers["Retry-After"] == "1"

    assert answer.json()["leaderboard"] == [{"rank": 1, "position": 1, "userId": "ann", "score": 5}]


def test_a_page_and_a_place_from_either_store_are_the_same(api: httpx.Client, redis: Redis) -> None:
    make("laps", fold="best", order="lower", stream=True)
    for user_id, score in (("ann", 70), ("ben", 70), ("cy/d", 90), ("Zoë", 60)):
        submit(user_id, score)
    addresses = ["/boards/laps", "/boards/laps?limit=2&offset=1", "/boards/laps/users/cy%2Fd", "/boards/laps/users/eve"]
    before = [settled(api, address) for address in addresses]

    redis.flushall()
    redis.acl_setuser("default", enabled=True, commands=["-eval", "-evalsha"])
    try:
        after = [settled(api, address, "database") for address in addresses]
    finally:
        redis.acl_setuser("default", enabled=True, categories=["+@all"])

    assert [answer.content for answer in after] == [answer.content for answer in before]
    assert [answer.headers.get("ETag") for answer in after] == [answer.headers.get("ETag") for answer in before]
    assert [(r["rank"], r["position"], r["userId"], r["score"]) for r in before[0].json()["leaderboard"]] == [
        (1, 1, "Zoë", 60),
        (2, 2, "ann", 70),
        (2, 3, "ben", 70),
        (4, 4, "cy/d", 90),
    ]
    assert before[2].json()["rank"] == 4
    assert code(before[3]) == (404, "no_score")


def test_the_tag_tells_boards_and_periods_apart(api: httpx.Client) -> None:
    make("first")
    make("second")
    add("ann", 5)
    addresses = ["/boards/first", "/boards/second", "/boards/leaderboard", "/boards/first?limit=1"]
    pages = [settled(api, address) for address in addresses]

    tags = [page.headers["ETag"] for page in pages]

    assert len(set(tags)) == len(tags)
    for address, tag in zip(addresses, tags, strict=True):
        again = api.get(address, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert all(f"X-Leaderboard-{name}" in again.headers for name in HEADERS)
    assert api.get("/boards/first", headers={"If-None-Match": tags[1]}).status_code == 200


def test_periods_have_names(api: httpx.Client) -> None:
    be_ahead()
    make(period="daily", zone="Europe/Berlin")
    add("ann", 5)
    page = settled(api, "/boards/weekly").json()
    (period,) = api.get("/boards/weekly/periods").json()["periods"]

    assert page["isCurrent"] is True
    assert period == {name: page[name] for name in ("period", "startsAt", "endsAt", "isCurrent")} | {"closedAt": None}
    day = page["endsAt"][:10]  # in Berlin a day ends on the UTC day that it has most of
    for name in ("current", "", str(page["period"]), day):
        assert api.get("/boards/weekly", params={"period": name}).json() == page


def test_a_list_of_periods_says_where_in_the_log_it_is(api: httpx.Client) -> None:
    make()
    add("ann", 5)
    head = log.head()

    answer = api.get("/boards/weekly/periods")

    assert answer.headers["X-Leaderboard-Position"] == f"{head.origin}.{head.seq}"
    until(
        lambda: api.get("/boards/leaderboard/periods").headers["X-Leaderboard-Position"] == f"{head.origin}.{head.seq}"
    )


UNKNOWN = ["previous", "2", "999999999", "0001-01-01", "9999-12-31"]
INVALID = ["0", "-1", "1e3", "1" * 10, "\u0661", "²", "2026-02-30", "2026-11-2", "٢٠٢٦-١١-٢٦", "\0", "now", "1" * 9000]


@pytest.mark.parametrize("name", ["leaderboard", "weekly"])
def test_a_period_that_is_not_there(name: str, api: httpx.Client) -> None:
    make(period="weekly")
    settled(api, "/boards/weekly")

    for address in (f"/boards/{name}", f"/boards/{name}/users/ann"):
        for period in UNKNOWN:
            if name == "weekly" or "-" not in period:  # the default board has all days
                assert code(api.get(address, params={"period": period})) == (404, "period_unknown"), period
        for period in INVALID:
            assert code(api.get(address, params={"period": period})) == (400, "period_invalid"), period


@pytest.mark.writes_nothing
@pytest.mark.parametrize(
    "name", ["%00", "%ED%A0%80", "a%2Fb", "Weekly", "..%2f", "x" * 3000, "%F0%9F%8F%81", "l\u0661"]
)
def test_an_odd_name_is_no_board(name: str, api: httpx.Client) -> None:
    for rest in ("", "/periods", "/users/ann"):
        assert code(api.get(f"/boards/{name}{rest}")) in [
            (404, "board_unknown"),
            (404, "not_found"),
            (400, "bad_request"),
        ]


def test_the_user_of_the_path_is_one_segment(api: httpx.Client) -> None:
    make()
    for user_id in ("a/b", "users/periods", "a%2Fb", "Zoë ☕"):
        add(user_id, 5)
    settled(api, "/boards/weekly")

    for board in ("weekly", "leaderboard"):
        for user_id in ("a/b", "users/periods", "a%2Fb", "Zoë ☕"):
            answer = api.get(f"/boards/{board}/users/{quote(user_id, safe='')}")
            assert (answer.status_code, answer.json()["userId"]) == (200, user_id)
        assert code(api.get(f"/boards/{board}/users/a/b")) == (404, "not_found")
        assert code(api.get(f"/boards/{board}/users/%00")) == (404, "no_score")
        assert code(api.get(f"/boards/{board}/users/%FF")) == (400, "bad_request")


@pytest.mark.parametrize("is_public", [True, False])
def test_a_user_whose_id_ends_in_scores_can_be_read(is_public: bool, api: httpx.Client, token_for: TokenFor) -> None:
    make("laps", fold="best", stream=True, isPublic=is_public)
    submit("team/scores", 7)
    address, mine = "/boards/laps/users/team%2Fscores", {"Authorization": f"Bearer {token_for('zed')}"}
    page = settled(api, address, **mine)

    stranger, head = api.get(address, headers={"Authorization": "Bearer stale"}), api.head(address, headers=mine)

    assert (page.json()["userId"], page.json()["score"]) == ("team/scores", 7)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(page.content)))
    assert stranger.content == page.content if is_public else code(stranger) == (401, "token_invalid")
    assert "GET" in api.options(address).headers["Allow"]
    assert code(api.get("/boards/leaderboard/users/team%2Fscores")) == (404, "no_score")
    assert code(api.get("/boards/laps/users/team/scores")) == (404, "not_found")  # scores are sent there


def test_metadata_is_told_on_request(api: httpx.Client) -> None:
    make("laps", fold="best", order="lower", stream=True)
    submit("ann", 70, metadata=json.dumps({"car": "roadster"}))
    submit("ben", 80)
    settled(api, "/boards/laps")

    ann, ben = (api.get(f"/boards/laps/users/{name}", params={"metadata": "1"}) for name in ("ann", "ben"))

    assert (ann.json()["eventId"], ann.json()["metadata"]) == ("1", {"car": "roadster"})
    assert (ben.json()["eventId"], ben.json()["metadata"]) == ("2", None)
    assert ann.headers["X-Leaderboard-Source"] == "database"
    assert "metadata" not in api.get("/boards/laps/users/ann", params={"metadata": "0"}).json()
    assert code(api.get("/boards/laps/users/ann", params={"metadata": "yes"})) == (400, "metadata_not_a_choice")


def test_a_private_board_is_seen_with_any_token_that_is_good(api: httpx.Client, token_for: TokenFor) -> None:
    make("staff", isPublic=False, period="weekly")
    add("ann", 5)
    mine = {"Authorization": f"Bearer {token_for('zed')}"}
    settled(api, "/boards/staff", **mine)
    addresses = ["/boards/staff", "/boards/staff/periods", "/boards/staff/users/ann", "/boards/staff/users/eve"]
    # Whoever may not see it does not learn which periods it has either.
    addresses += [
        "/boards/staff?period=previous",
        "/boards/staff?period=x",
        "/boards/staff/users/ann?period=2026-01-01",
        "/boards/staff/results?period=current",
        "/boards/staff/results?period=previous",
        "/boards/staff/results?period=x",
    ]

    for address in addresses:
        refused = api.get(address)
        assert code(refused) == (401, "not_authenticated"), address
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert code(api.get(address, headers={"Authorization": "Bearer x"})) == (401, "token_invalid")
        seen = api.get(address, headers=mine)
        assert seen.status_code in (200, 400, 404)
        if "?" not in address:
            assert seen.headers["Cache-Control"] == "private, no-cache"


def test_a_revoked_token_sees_no_private_board(api: httpx.Client) -> None:
    make("staff", isPublic=False)
    add("ann", 5)
    out = StringIO()
    call_command("issue_token", "--service", "studio", "--scope", "events:void", stdout=out, stderr=StringIO())
    token = out.getvalue().strip()
    headers = {"Authorization": f"Bearer {token}"}
    settled(api, "/boards/staff", **headers)

    service_tokens.revoke(token[: token.index("_", 4)])

    for rest in ("", "/periods", "/users/ann"):
        assert code(api.get(f"/boards/staff{rest}", headers=headers)) == (401, "token_revoked")


def test_a_stale_token_hides_no_public_board(api: httpx.Client) -> None:
    make()
    settled(api, "/boards/weekly", Authorization="Bearer x")

    assert api.get("/boards/weekly/periods", headers={"Authorization": "Bearer x"}).status_code == 200


def test_other_methods(api: httpx.Client) -> None:
    make()
    add("ann", 5)
    settled(api, "/boards/weekly")

    for address in ("/boards/weekly", "/boards/weekly/periods", "/boards/weekly/users/ann"):
        page, head = api.get(address), api.head(address)
        assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(page.content)))
        assert "GET" in api.options(address).headers["Allow"]
        assert code(api.put(address)) == (405, "method_not_allowed")
