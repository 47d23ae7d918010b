"""/boards: who may make, change and delete boards, and the list that everybody sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.db.backends.base.base import BaseDatabaseWrapper

from scores import service_tokens, services
from scores.models import Board
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.conftest import Post, be_ahead
from tools.servers import Server

SCOPE = "boards:manage"
Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(api: httpx.Client, token_for: TokenFor) -> Ask:
    """Asks by a token with the scope: `ask("POST", "", {...})`, or with other claims."""

    def ask(method: str, name: str, body: object = None, *, scope: object = SCOPE) -> httpx.Response:
        address = f"/boards/{name}" if name else "/boards"
        headers = {"Authorization": f"Bearer {token_for('studio', scope=scope)}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        return api.request(method, address, content=content, headers=headers)

    return ask


def made(ask: Ask, name: str = "weekly", **fields: Any) -> None:
    answer = ask("POST", "", {"name": name, "fold": "sum", "period": "weekly"} | fields)
    assert answer.status_code == 201, answer.text


def listed(api: httpx.Client) -> list[dict[str, Any]]:
    boards: list[dict[str, Any]] = api.get("/boards").json()["boards"]
    return boards


def code(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(answer.json()["code"])


def test_a_board_is_made_by_a_service_with_the_scope(ask: Ask) -> None:
    answer = ask("POST", "", {"name": "weekly", "fold": "sum", "period": "weekly", "zone": "Europe/Berlin"})

    assert (answer.status_code, answer.headers["Location"]) == (201, "/api/v1/boards/weekly")
    assert answer.json() == {
        "name": "weekly",
        "title": "",
        "fold": "sum",
        "order": "higher",
        "ties": "first",
        "period": "weekly",
        "zone": "Europe/Berlin",
        "cutTime": "00:00",
        "cutWeekday": "monday",
        "stream": False,
        "isPublic": True,
        "archived": False,
        "settleSeconds": 600,
    }


@pytest.mark.parametrize("scope", ["", "scores:write:any", "BOARDS:MANAGE"])
@pytest.mark.writes_nothing
def test_without_the_scope_nobody_changes_boards(scope: str, ask: Ask) -> None:
    for method, name in (("POST", ""), ("PATCH", "weekly"), ("DELETE", "weekly")):
        answer = ask(method, name, {"name": "weekly", "fold": "sum"}, scope=scope)

        assert (answer.status_code, code(answer)) == (403, "insufficient_scope")
        assert 'scope="boards:manage"' in answer.headers["WWW-Authenticate"]


@pytest.mark.writes_nothing
def test_nor_without_a_token(api: httpx.Client) -> None:
    assert code(api.post("/boards", json={"name": "weekly", "fold": "sum"})) == "not_authenticated"


def test_a_revoked_token_makes_no_board(api: httpx.Client) -> None:
    out = StringIO()
    call_command("issue_token", "--service", "studio", "--scope", SCOPE, stdout=out, stderr=StringIO())
    headers = {"Authorization": f"Bearer {out.getvalue().strip()}"}
    assert api.post("/boards", json={"name": "a", "fold": "sum"}, headers=headers).status_code == 201

    service_tokens.revoke(out.getvalue()[: out.getvalue().index("_", 4)])

    assert code(api.post("/boards", json={"name": "b", "fold": "sum"}, headers=headers)) == "token_revoked"
    assert code(api.delete("/boards/a", headers=headers)) == "token_revoked"
    assert Board.objects.count() == 1


@pytest.mark.writes_nothing
def test_all_mistakes_are_told(ask: Ask) -> None:
    answer = ask("POST", "", {"name": "leaderboard", "fold": "max", "\ud800": 1})

    assert (answer.status_code, code(answer)) == (400, "board_invalid")
    assert {(each["field"], each["code"]) for each in answer.json()["mistakes"]} == {
        ("name", "reserved"),
        ("fold", "not_a_choice"),
        ("?", "unknown_field"),
    }
    assert answer.json()["errors"].keys() == {"name", "fold", "?"}


@pytest.mark.parametrize("body", [[], 7, "weekly", {"fold": {}}, {"name": ["x"], "seasons": {"a": 1}}, {}, None])
@pytest.mark.writes_nothing
def test_any_body_gets_an_answer(body: object, ask: Ask) -> None:
    assert ask("POST", "", body).status_code == 400
    assert ask("PATCH", "weekly", body).status_code in (400, 404)


def test_what_may_change_changes(ask: Ask) -> None:
    made(ask)

    answer = ask("PATCH", "weekly", {"title": "This week", "keep": 8})

    assert (answer.status_code, answer.json()["title"], answer.json()["keep"]) == (200, "This week", 8)
    assert ask("PATCH", "weekly", {"keep": None}).json().get("keep") is None


def test_what_cannot_change_is_refused_by_name(ask: Ask) -> None:
    made(ask)

    answer = ask("PATCH", "weekly", {"fold": "best", "period": "monthly", "title": "x"})

    assert (answer.status_code, code(answer)) == (409, "board_fixed")
    assert answer.json()["errors"].keys() == {"fold", "period"}


def test_below_a_path_the_address_of_a_board_has_it(below_a_path: Server, token_for: TokenFor) -> None:
    answer = httpx.post(
        f"{below_a_path.url}/leaderboard/api/v1/boards",
        json={"name": "weekly", "fold": "sum"},
        headers={"Authorization": f"Bearer {token_for('studio', scope=SCOPE)}"},
    )

    assert (answer.status_code, answer.headers["Location"]) == (201, "/leaderboard/api/v1/boards/weekly")


def test_a_name_is_taken_once(ask: Ask) -> None:
    made(ask)

    answer = ask("POST", "", {"name": "weekly", "fold": "sum"})

    assert (answer.status_code, code(answer)) == (409, "board_exists")


def test_a_deleted_board_is_gone(ask: Ask, api: httpx.Client) -> None:
    made(ask)

    assert ask("DELETE", "weekly").status_code == 204

    assert [board["name"] for board in listed(api)] == ["leaderboard"]
    assert code(ask("DELETE", "weekly")) == "board_unknown"


@pytest.mark.parametrize("name", ["nothing", "%00", "%FC", "..%2Fx", "leaderboard"])
@pytest.mark.writes_nothing
def test_no_other_board_can_be_changed(name: str, ask: Ask) -> None:
    assert ask("DELETE", name).status_code in (400, 404, 405, 409)


def test_everybody_sees_which_boards_there_are(ask: Ask, api: httpx.Client) -> None:
    noon = be_ahead()
    made(ask)
    made(ask, "days", period="daily", title="Today")
    made(ask, "secret", isPublic=False)
    made(ask, "ages", period="forever", archived=True)

    answer = api.get("/boards", headers={"Authorization": "Bearer stale"})

    assert answer.status_code == 200
    boards = answer.json()["boards"]
    assert [board["name"] for board in boards] == ["leaderboard", "ages", "days", "weekly"]
    assert [board["archived"] for board in boards] == [False, True, False, False]
    assert (boards[2]["title"], boards[2]["fold"], boards[2]["period"]) == ("Today", "sum", "daily")
    day, next_day = (f"{noon + timedelta(days=days):%F}T00:00:00Z" for days in (0, 1))
    assert boards[2]["current"] == {"number": 1, "startsAt": day, "resetsAt": next_day}
    assert boards[1]["current"] is None


def test_the_list_says_where_in_the_log_it_is(increment: Post, api: httpx.Client) -> None:
    listed(api)
    position = increment("ann", 5).headers["X-Leaderboard-Position"]

    until(lambda: api.get("/boards").headers["X-Leaderboard-Position"] == position)


def test_another_process_shows_a_board_within_a_second_or_so(api: httpx.Client) -> None:
    listed(api)

    Board.objects.create(name="by-hand", fold="sum")

    until(lambda: len(listed(api)) == 2)


@pytest.mark.writes_nothing
def test_other_methods_are_not_allowed(ask: Ask) -> None:
    for method, name, allowed in (
        ("PUT", "", "GET, POST, HEAD, OPTIONS"),
        ("DELETE", "", "GET, POST, HEAD, OPTIONS"),
        ("POST", "weekly", "GET, PATCH, DELETE, HEAD, OPTIONS"),
    ):
        answer = ask(method, name, {})

        assert (answer.status_code, code(answer)) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


def test_while_the_head_is_locked_a_change_is_unavailable(ask: Ask, rival: BaseDatabaseWrapper) -> None:
    services.correct(user_id="ann", total=1, actor="test", reason="start")
    rival.set_autocommit(False)
    with rival.cursor() as cursor:
        cursor.execute("SELECT FROM leaderboards FOR UPDATE")

    answer = ask("POST", "", {"name": "weekly", "fold": "sum"})

    rival.rollback()
    assert (answer.status_code, code(answer)) == (503, "unavailable")
    assert not Board.objects.exists()


def test_a_connection_that_the_database_ended_is_mended(
    ask: Ask, api: httpx.Client, rival: BaseDatabaseWrapper
) -> None:
    made(ask)
    listed(api)
    with rival.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%boards%'"
        )

    assert ask("PATCH", "weekly", {"title": "x"}).status_code == 200
    assert [board["name"] for board in listed(api)] == ["leaderboard", "weekly"]


def test_a_board_ranks_the_stream_of_another(ask: Ask, api: httpx.Client, token_for: TokenFor) -> None:
    today = {"name": "laps-today", "fold": "best", "order": "lower", "period": "daily", "stream": "laps"}
    assert ask("POST", "", today).json()["mistakes"][0]["code"] == "unknown_stream"
    made(ask, "laps", fold="best", period="forever", stream=True)
    assert ask("POST", "", today | {"fold": "sum"}).json()["mistakes"][0]["field"] == "fold"

    answer = ask("POST", "", today)

    assert (answer.status_code, answer.json()["stream"]) == (201, "laps")
    assert "submitters" not in answer.json()
    refused = api.post(
        "/boards/laps-today/scores", json={"score": 5}, headers={"Authorization": f"Bearer {token_for('ann')}"}
    )
    assert (refused.status_code, code(refused)) == (409, "board_has_no_stream")
    assert "/api/v1/boards/laps/scores" in refused.json()["detail"]
    assert ask("POST", "", today | {"name": "third", "stream": "laps-today"}).json()["mistakes"][0]["field"] == "stream"
    assert code(ask("PATCH", "laps-today", {"stream": True})) == "board_fixed"


def test_a_stream_that_others_rank_is_not_deleted(ask: Ask) -> None:
    made(ask, "laps", fold="best", stream=True)
    made(ask, "laps-today", fold="best", period="daily", stream="laps")

    refused = ask("DELETE", "laps")

    assert (refused.status_code, code(refused)) == (409, "board_stream_in_use")
    assert "laps-today" in refused.json()["detail"]
    assert ask("DELETE", "laps-today").status_code == 204
    assert ask("DELETE", "laps").status_code == 204
