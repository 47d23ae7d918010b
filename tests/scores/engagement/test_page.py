"""The page about engagement: who may see it, what it says with and without players, and its files."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from scores.admin.bars import bars
from scores.admin.engagement import FILES
from scores.engagement import fold as fold_module
from scores.engagement import sockets
from scores.engagement.fold import EngagementFold
from scores.engagement.sockets import SocketSampler
from scores.log.head import log
from scores.models import EngagementSockets
from tests.leaderboard_site.operations.test_status import text_of
from tests.scores.admin.test_admin import logged_in
from tests.scores.admin.test_moderation import member_of

from .history import History
from .test_fold import settle

PAGE = "/admin/engagement/"


@pytest.fixture
def viewer(board: None) -> Client:
    return logged_in(member_of("Viewers", "vera"))


@pytest.fixture
def played(board: None) -> None:
    """Some weeks of play, as if they ended a moment ago."""
    history = History(3)
    history.go_on(500)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE score_events SET created_at = now() - (%s - created_at) WHERE isfinite(created_at)", [history.at]
        )
    settle(EngagementFold(log))


def page(client: Client) -> str:
    answer = client.get(PAGE)
    assert answer.status_code == 200
    content: str = answer.content.decode()
    return content


def test_it_takes_the_permission(board: None) -> None:
    nobody = User.objects.create_user("nina", is_staff=True)
    client = logged_in(nobody)

    assert PAGE not in client.get("/admin/").content.decode()
    assert client.get(PAGE).status_code == 403
    assert client.get(f"{PAGE}hours.csv").status_code == 403
    assert Client().get(PAGE).status_code == 302


def test_viewers_find_it_on_every_page(viewer: Client) -> None:
    assert f'href="{PAGE}"' in viewer.get("/admin/").content.decode()


def test_before_anything_was_counted_it_says_so(viewer: Client) -> None:
    assert "Nothing has been counted yet." in text_of(page(viewer))
    answer = viewer.get(f"{PAGE}hours.csv")
    assert answer.content.decode() == "\ufeffhour,increments,points,scores,voids,voided\r\n"


def test_without_players_it_says_so(viewer: Client) -> None:
    log.head()
    EngagementFold(log).fold()

    seen = text_of(page(viewer))

    assert "Nobody has played in this time." in seen
    assert "No action was taken in 28 days." in seen


def test_it_draws_and_tells_the_numbers(viewer: Client, played: None) -> None:
    content = page(viewer)
    seen = text_of(content)

    assert "As of event 500: nothing is missing up to" in seen
    charts = [ElementTree.fromstring(svg) for svg in re.findall(r'<svg class="chart".*?</svg>', content, re.DOTALL)]
    assert [chart.findtext("{*}title") for chart in charts] == [
        "Players by day",
        "Players by week",
        "New players by day",
        "Increments",
        "Points",
        "Most open sockets",
    ]
    assert "The most are" in (charts[0].findtext("{*}desc") or "")
    assert {bar.tag.partition("}")[2] for bar in charts[0].findall("{*}rect")} == {"rect"}
    ids = re.findall(r' id="([^"]+)"', content)
    assert len(ids) == len(set(ids))
    assert "quest" in seen
    assert "100 %" in seen
    assert "style=" not in content.partition('id="content-main"')[2]


def test_while_it_is_counted_anew_it_says_up_to_when(
    viewer: Client, played: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module, "EVENTS_PER_FOLD", 100)
    EngagementFold(log).empty()
    EngagementFold(log).fold()

    assert re.search(r"As of event 100: counted up to .* UTC only\.", text_of(page(viewer)))


@pytest.mark.parametrize("name", FILES)
def test_each_table_is_a_file(name: str, viewer: Client, played: None) -> None:
    answer: Any = viewer.get(f"{PAGE}{name}.csv")

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert f'filename="{name}-' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(StringIO(answer.content.decode("utf-8-sig"))))
    assert rows
    if name == "actions":
        assert {row["action"] for row in rows} == {"win", "quest", "'-3"}


def test_there_is_no_other_file(viewer: Client) -> None:
    assert viewer.get(f"{PAGE}secrets.csv").status_code == 404


# Charts


def test_bars_are_as_high_as_their_numbers_and_leave_gaps() -> None:
    svg = ElementTree.fromstring(bars("a", "Sockets", "Sockets", ["1", "2", "3", "4"], [5, None, 10, 0]))

    assert [bar.get("height") for bar in svg.findall("{*}rect")] == ["60.0", "120.0"]
    assert svg.findtext("{*}desc") == "Sockets from 1 to 4. The most are 10, 3. The newest number is 0."


def test_without_a_number_the_chart_says_so() -> None:
    svg = ElementTree.fromstring(bars("a", "Sockets", "Sockets", ["1", "2"], [None, None]))

    assert svg.findtext("{*}desc") == "Sockets from 1 to 2. None at any time."
    assert not svg.findall("{*}rect")


# Sockets


def test_the_most_sockets_of_an_hour_are_kept(board: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SAMPLE_EVERY_S", 0)
    counts: list[int | None] = [3, 8, None, 5]
    sampler = SocketSampler(log)
    sampler.sample()  # nobody has said how to count
    sampler.watch(lambda: counts.pop(0))

    for _ in range(4):
        assert sampler.sample() is False

    samples = list(EngagementSockets.objects.order_by("hour"))
    assert max(each.peak for each in samples) == 8
    assert sum(each.samples for each in samples) == 3
    assert samples[-1].hour.replace(minute=0, second=0, microsecond=0) == samples[-1].hour
    assert abs((datetime.now(UTC) - samples[-1].hour).total_seconds()) < 7_200


def test_sockets_are_sampled_once_a_minute_if_anybody_can_count(board: None) -> None:
    counts: list[int | None] = [None, 3, 8]
    sampler = SocketSampler(log)
    sampler.watch(lambda: counts.pop(0))

    for _ in range(5):
        sampler.sample()

    assert counts == [8]
    assert EngagementSockets.objects.get().peak == 3
