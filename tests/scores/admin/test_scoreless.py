"""Players who have scores on boards but no points: moderators find them and block them all the same."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis import Redis

from scores.admin import scoreless
from scores.admin.scoreless import search
from scores.boards.follower import BoardFollower
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Block, UserScore
from tests.scores.boards.test_follower import lap, make, settle

from .test_admin import EVENTS, USERS, logged_in, value
from .test_moderation import act, member_of, told


@pytest.fixture
def moderator(copy: Redis) -> Client:
    make("laps", fold="best", order="lower", stream=True)
    return logged_in(member_of("Moderators", "mia"))


def found(page: Any) -> list[str]:
    return [user_id for user_id, _ in page.context["scoreless"]]


def test_a_search_finds_players_without_points(moderator: Client) -> None:
    for user in ("stan", "stella", "sam", "steve"):
        lap(user, 700)
    writer.record([Change(Kind.INCREMENT, "steve", 10)])

    page = moderator.get(f"{USERS}?q=st")

    assert found(page) == ["stan", "stella"]
    assert [user.user_id for user in page.context["cl"].result_list] == ["steve"]
    assert f'<a href="{USERS}stan/change/">' in page.content.decode()
    assert found(moderator.get(USERS)) == []


def test_the_page_of_a_player_without_points_shows_events_and_boards(
    moderator: Client, follower: BoardFollower
) -> None:
    lap("stan", 700)
    lap("stella", 650)
    settle(follower)

    page = moderator.get(f"{USERS}stan/change/")

    assert page.status_code == 200
    assert value(page, "score") == "—"
    assert value(page, "state") == "No points"
    assert value(page, "places_on_boards").replace("\n", "") == "BoardPeriodPositionScoreWith eventlaps127001"
    text = page.content.decode()
    assert f"{EVENTS}1/change/" in text
    assert "block/?user=stan" in text
    assert "correct/?user=stan" not in text
    assert "void/?user=stan" in text
    assert f'href="{USERS}stan/change/"' in moderator.get(f"{EVENTS}1/change/").content.decode()
    assert moderator.get(f"{USERS}stan/history/").status_code == 200
    for nobody in ("nobody", "service:game", "st_00an"):  # the last is an id with NUL
        assert moderator.get(f"{USERS}{nobody}/change/").status_code == 302


def test_a_player_without_points_is_blocked_and_unblocked(moderator: Client, follower: BoardFollower) -> None:
    lap("stan", 700)
    settle(follower)
    assert "<td>—</td><td>No points</td>" in moderator.get(f"{USERS}block/?user=stan").content.decode()

    answer = act(moderator, "block", "stan")

    assert (answer.status_code, answer.url) == (302, f"{USERS}stan/change/")
    assert told(answer) == ["The player stan was blocked in event 2."]
    assert LogEntry.objects.get().object_id == "stan"
    assert Block.objects.get().user_id == "stan"
    settle(follower)
    page = moderator.get(f"{USERS}stan/change/")
    assert "Blocked by mia in event 2: bots" in value(page, "state")
    assert "blocked" in value(page, "places_on_boards")
    assert found(moderator.get(f"{USERS}?blocked=yes")) == ["stan"]
    assert found(moderator.get(f"{USERS}?blocked=yes&q=x")) == []

    act(moderator, "unblock", "stan")

    assert not Block.objects.exists()
    assert not UserScore.objects.exists()
    assert moderator.get(f"{USERS}correct/?user=stan").status_code == 404


def test_players_with_and_without_points_are_blocked_together(moderator: Client) -> None:
    lap("stan", 700)
    writer.record([Change(Kind.INCREMENT, "ann", 10)])

    assert told(act(moderator, "block", "ann", "stan", "nobody")) == ["2 users were blocked."]

    assert set(Block.objects.values_list("user_id", flat=True)) == {"ann", "stan"}


def test_the_search_reads_a_user_once_however_many_events_they_have(moderator: Client) -> None:
    for _ in range(10):  # of few pages PostgreSQL would read all, and there are as many as other tests have left
        writer.record([Change(Kind.SCORE, "stan", 700, stream="laps")] * 500)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE score_events")
        wanted: dict[str, str | int] = {"prefix": "st", "service": "service:", "most": 1_000, "shown": 100}
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {scoreless.SEARCH_SQL}", wanted)
        (((plan,),),) = cursor.fetchall()

    assert search("st") == ["stan"]
    assert 1 <= rows_read(plan["Plan"], "score_events") <= 3


def rows_read(node: dict[str, Any], table: str) -> int:
    """How many rows of a table a plan read, also those that it left out."""
    own = 0
    if node.get("Relation Name") == table:
        own = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return int(own + sum(rows_read(child, table) for child in node.get("Plans", [])))


def test_the_page_asks_as_often_whatever_the_number_of_boards(moderator: Client, follower: BoardFollower) -> None:
    lap("stan", 700)
    settle(follower)
    moderator.get(f"{USERS}stan/change/")
    with CaptureQueriesContext(connection) as with_one:
        moderator.get(f"{USERS}stan/change/")
    for number in range(5):
        make(f"more-{number}", fold="best", stream=True)
        lap("stan", 7, f"more-{number}")
    settle(follower)
    with CaptureQueriesContext(connection) as with_six:
        page = moderator.get(f"{USERS}stan/change/")

    assert "more-4" in value(page, "places_on_boards")
    assert len(with_six) == len(with_one)
    assert log.head().seq == 6
