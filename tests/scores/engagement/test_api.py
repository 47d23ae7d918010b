"""/analytics: who may read it, what the answers are, and which ranges there are."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.db import connection

from scores import service_tokens
from scores.engagement.fold import EngagementFold
from scores.log.head import log
from scores.models import EngagementPosition, EngagementSockets
from tests.conftest import TokenFor
from tests.polling import until
from tests.test_openapi import check

from .history import History

SCOPE = "analytics:read"
ADDRESSES = ["active", "new-players", "retention", "hours", "actions", "sockets"]
Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(api: httpx.Client, token_for: TokenFor) -> Ask:
    """Asks by a token with the scope, or with another one: `ask("hours", to="2026-11-26")`, `from_` is `from`."""

    def ask(name: str, *, scope: str | None = SCOPE, **parameters: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token_for('studio', scope=scope)}"}
        asked = {key.rstrip("_"): value for key, value in parameters.items()}
        answer = api.get(f"/analytics/{name}", params=asked, headers=headers)
        if answer.headers["Content-Type"] != "text/csv; charset=utf-8":
            check(answer, f"/api/v1/analytics/{name}")
        return answer

    return ask


@pytest.fixture
def counted(api: httpx.Client) -> None:
    """Weeks of play, which the server has counted."""
    History(1).go_on(300)
    fold = EngagementFold(log)
    while fold.behind():
        fold.fold()


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("name", ADDRESSES)
def test_it_takes_the_scope(name: str, ask: Ask, api: httpx.Client) -> None:
    refused = ask(name, scope="boards:manage")

    assert code(refused) == (403, "insufficient_scope")
    assert 'scope="analytics:read"' in refused.headers["WWW-Authenticate"]
    assert code(ask(name, scope=None)) == (403, "insufficient_scope")
    assert code(api.get(f"/analytics/{name}")) == (401, "not_authenticated")


def test_a_revoked_token_reads_nothing(api: httpx.Client, counted: None) -> None:
    out = StringIO()
    call_command("issue_token", "--service", "studio", "--scope", SCOPE, stdout=out, stderr=StringIO())
    headers = {"Authorization": f"Bearer {out.getvalue().strip()}"}
    assert api.get("/analytics/active", headers=headers).status_code == 200

    service_tokens.revoke(out.getvalue()[: out.getvalue().index("_", 4)])

    assert code(api.get("/analytics/active", headers=headers)) == (401, "token_revoked")


def test_answers_say_what_they_are_as_of(ask: Ask, counted: None) -> None:
    for name in ADDRESSES:
        answer = ask(name)

        assert answer.status_code == 200, answer.text
        assert answer.headers["X-Leaderboard-Position"] == f"{log.head().origin}.300"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.json()["seq"] == 300
        assert datetime.fromisoformat(answer.json()["asOf"]) > datetime.now(UTC) - timedelta(minutes=5)


def test_there_is_a_row_for_each_day_hour_and_week(ask: Ask, counted: None) -> None:
    asked = {"from_": "2026-08-01", "to": "2026-08-05"}

    days = ask("active", **asked).json()["rows"]
    weeks = ask("active", by="week", **asked).json()["rows"]
    new = ask("new-players", **asked).json()["rows"]
    hours = ask("hours", **asked).json()["rows"]

    assert [row["day"] for row in days] == [f"2026-08-0{n}" for n in range(1, 6)]
    assert [row["week"] for row in weeks] == ["2026-07-27", "2026-08-03"]
    assert 0 < new[0]["players"] <= days[0]["players"]
    assert len(hours) == 5 * 24
    assert (hours[0]["hour"], hours[-1]["hour"]) == ("2026-08-01T00:00:00Z", "2026-08-05T23:00:00Z")


def test_actions_come_in_the_order_of_how_often_they_were_taken(ask: Ask, counted: None) -> None:
    asked = {"from_": "2026-08-01", "to": "2026-08-20"}

    rows = ask("actions", **asked).json()["rows"]
    second = ask("actions", limit=1, offset=1, **asked).json()["rows"]

    assert {row["action"] for row in rows} == {"win", "quest", "-3"}
    assert [row["increments"] for row in rows] == sorted((row["increments"] for row in rows), reverse=True)
    assert second == rows[1:2]


def test_retention_is_a_share_of_the_cohort(ask: Ask, counted: None) -> None:
    rows = ask("retention", weeks=26).json()["rows"]

    first = [row for row in rows if row["cohort"] == "2026-07-27"]
    assert [row["week"] for row in first] == list(range(len(first)))
    assert first[0]["share"] == 1
    assert first[1]["share"] == round(first[1]["players"] / first[0]["players"], 4)
    assert {row["share"] for row in rows if row["cohort"] > "2026-11-01"} <= {None, 1.0}


def test_sockets_are_null_where_nobody_counted(ask: Ask, counted: None) -> None:
    hour = datetime(2026, 8, 1, 3, tzinfo=UTC)
    EngagementSockets.objects.create(hour=hour, peak=17, samples=60)

    rows = ask("sockets", from_="2026-08-01", to="2026-08-01").json()["rows"]

    assert [row["peak"] for row in rows[2:5]] == [None, 17, None]


def test_the_same_as_csv(ask: Ask, counted: None) -> None:
    asked = {"from_": "2026-08-01", "to": "2026-08-20"}
    for name in ADDRESSES:
        parameters = {} if name == "retention" else asked
        rows = ask(name, **parameters).json()["rows"]

        answer = ask(name, format="csv", **parameters)

        found = list(csv.DictReader(StringIO(answer.text)))
        assert [list(row) for row in found] == [list(row) for row in rows]
        texts = [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
        assert [[cell.removeprefix("'") for cell in row.values()] for row in found] == texts
        assert int(answer.headers["X-Leaderboard-Seq"]) == 300
    assert "'-3," in ask("actions", format="csv", **asked).text


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("active", {"from_": "yesterday"}, "from_invalid"),
        ("active", {"from_": "2026-02-30"}, "from_invalid"),
        ("active", {"from_": "0001-01-01"}, "from_invalid"),
        ("hours", {"to": "9999-12-31"}, "to_invalid"),
        ("hours", {"to": "２026-11-26"}, "to_invalid"),
        ("active", {"from_": "2026-11-02", "to": "2026-11-01"}, "from_after_to"),
        ("active", {"from_": "2025-11-01", "to": "2026-11-02"}, "from_too_early"),
        ("hours", {"from_": "2026-11-01", "to": "2026-12-02"}, "from_too_early"),
        ("active", {"by": "month"}, "by_not_a_choice"),
        ("sockets", {"format": "xml"}, "format_not_a_choice"),
        ("retention", {"weeks": "0"}, "weeks_out_of_range"),
        ("retention", {"weeks": "27"}, "weeks_out_of_range"),
        ("retention", {"weeks": "-1"}, "weeks_out_of_range"),
        ("actions", {"limit": "101"}, "limit_out_of_range"),
        ("actions", {"offset": "x"}, "offset_invalid"),
    ],
)
@pytest.mark.writes_nothing
def test_what_is_no_range_is_told(name: str, asked: dict[str, str], expected: str, ask: Ask) -> None:
    assert code(ask(name, **asked)) == (400, expected)


def test_the_longest_ranges_are_answered(ask: Ask, counted: None) -> None:
    assert len(ask("active", from_="2026-01-01", to="2027-01-01").json()["rows"]) == 366
    assert len(ask("hours", from_="2099-12-01", to="2099-12-31").json()["rows"]) == 31 * 24


def test_without_its_tables_it_is_unavailable(ask: Ask, counted: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE engagement_position RENAME TO away")
        try:
            assert code(ask("active")) == (503, "unavailable")
        finally:
            cursor.execute("ALTER TABLE away RENAME TO engagement_position")


def test_the_server_counts_by_itself_and_says_so_before_it_has(api: httpx.Client, ask: Ask) -> None:
    until(lambda: ask("active").status_code == 200 or code(ask("active")) == (503, "analytics_building"))
    History(2).go_on(20)

    until(lambda: ask("active").json().get("seq") == 20)

    assert EngagementPosition.objects.get().seq == 20
