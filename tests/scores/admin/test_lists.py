"""Finding users in the admin: filters, the picture of a score, and the list as a file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from scores import services
from scores.admin.chart import HEIGHT, WIDTH, chart, positions
from scores.models import MAX_TOTAL, ScoreEvent, UserScore
from scores.spreadsheet import escape_formula
from tools.servers import Server

from .test_admin import USERS, cells, commands_during, logged_in, score, score_all
from .test_moderation import member_of


@pytest.fixture
def admin(copy: Redis) -> Client:
    return logged_in(User.objects.create_superuser("admin"))


# Filters


@pytest.mark.parametrize(
    ("asked", "users"),
    [
        ({"band": "0"}, ["zed"]),
        ({"band": "1-99"}, ["ben", "ann"]),
        ({"band": "100-999"}, ["cem"]),
        ({"band": "1000000-"}, ["max"]),
        ({"band": "1-99", "q": "b"}, ["ben"]),
        ({"band": "no such band"}, ["max", "cem", "ben", "ann", "zed"]),
        ({"score__gte": "99", "score__lte": "100"}, ["cem", "ben"]),
    ],
)
def test_users_are_found_by_a_band_of_scores(asked: dict[str, str], users: list[str], admin: Client) -> None:
    score(zed=0, ann=1, ben=99, cem=100, max=MAX_TOTAL)

    assert cells(admin.get(USERS, asked), "user_id") == users


@pytest.mark.parametrize(
    ("active", "users"), [("1", ["ann"]), ("7", ["ben", "ann"]), ("30", ["cem", "ben", "ann"]), ("-30", ["dan"])]
)
def test_users_are_found_by_when_they_were_active(active: str, users: list[str], admin: Client) -> None:
    score(ann=1, ben=2, cem=3, dan=4)
    for user_id, days in (("ben", 2), ("cem", 20), ("dan", 40)):
        UserScore.objects.filter(user_id=user_id).update(updated_at=timezone.now() - timedelta(days=days))

    assert cells(admin.get(USERS, {"active": active}), "user_id") == users


def test_users_are_not_counted(admin: Client) -> None:
    score(ann=20)

    with CaptureQueriesContext(connection) as queries:
        admin.get(USERS)

    (counted,) = [q["sql"] for q in queries if "COUNT(" in q["sql"]]
    assert "LIMIT 10000" in counted


def test_a_list_costs_as_much_with_fifty_users_as_with_one(admin: Client, copy: Redis) -> None:
    score(ann=20)
    admin.get(USERS)
    with CaptureQueriesContext(connection) as with_one:
        admin.get(USERS)
    score_all((f"user{number}", number) for number in range(1, 61))
    with CaptureQueriesContext(connection) as with_fifty:
        commands = commands_during(lambda: admin.get(USERS), copy)

    assert (
        len(with_fifty) == len(with_one) == 5
    )  # session, account, count, page, and the origin that ranks are asked of
    assert len(commands) == 1


def test_a_page_of_a_user_costs_as_much_with_sixty_events_as_with_one(admin: Client, copy: Redis) -> None:
    score(ann=20)
    admin.get(f"{USERS}ann/change/")
    with CaptureQueriesContext(connection) as with_one:
        admin.get(f"{USERS}ann/change/")
    score_all([("ann", 1)] * 60)
    with CaptureQueriesContext(connection) as with_sixty:
        commands = commands_during(lambda: admin.get(f"{USERS}ann/change/"), copy)

    assert len(with_sixty) == len(with_one)
    assert len(commands) == 1


# The picture


def events(*totals: int, actor: str = "", every_s: float = 60) -> list[ScoreEvent]:
    """The newest first, as they are read."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        ScoreEvent(
            seq=seq,
            user_id="ann",
            kind="increment",
            points=total,
            total=total,
            actor=actor,
            created_at=start + timedelta(seconds=seq * every_s),
        )
        for seq, total in enumerate(totals, start=1)
    ][::-1]


def test_time_goes_to_the_right_and_points_go_up() -> None:
    assert positions(events(10, 30, 20)[::-1]) == [(0, HEIGHT), (WIDTH / 2, 0), (WIDTH, HEIGHT / 2)]


@pytest.mark.parametrize("every_s", [0, -60])
def test_a_clock_that_stands_or_goes_back_does_not_turn_the_picture(every_s: float) -> None:
    xs = [x for x, _ in positions(events(10, 30, 20, every_s=every_s)[::-1])]

    assert xs == [0, WIDTH / 2, WIDTH]


def test_a_picture_says_what_it_shows() -> None:
    image = ElementTree.fromstring(chart(events(1000, 3000, 2000)) or "")

    svg = "{http://www.w3.org/2000/svg}"
    assert image.get("role") == "img"
    assert image.findtext(f"{svg}title") == "Score over time"
    assert image.findtext(f"{svg}desc") == (
        "3 events, from 2026-01-01 00:01 with a score of 1,000 to 2026-01-01 00:03 with 2,000. "
        "Lowest 1,000, highest 3,000. 0 by a moderator."
    )


def test_what_a_moderator_did_is_marked_and_no_markup_gets_in() -> None:
    (event,) = marked = events(10, actor="mia")
    event.reason, event.kind = '</title><script>alert("1")</script>', "correction"

    drawn = chart(marked) or ""

    assert "<script" not in drawn
    assert ElementTree.fromstring(drawn).find("{http://www.w3.org/2000/svg}circle[@class='correction']") is not None


def test_the_picture_needs_no_style_and_no_script(admin: Client) -> None:
    score_all([("ann", 1), ("ann", 5)])

    (drawn,) = re.findall(r'<svg class="chart".*?</svg>', admin.get(f"{USERS}ann/change/").content.decode(), re.DOTALL)

    assert not re.search(r"style=|<style|<script|\bon\w+=", drawn)
    assert 'd="M0.0 120.0H640.0V0.0"' in drawn


def test_nothing_is_drawn_of_nothing() -> None:
    assert chart([]) is None


# The file


@pytest.fixture
def browser(server: Server) -> Iterator[httpx.Client]:
    session = logged_in(member_of("Moderators", "mia")).cookies["sessionid"].value
    with httpx.Client(base_url=server.url, cookies={"sessionid": session}, timeout=30) as client:
        yield client


def rows(answer: httpx.Response) -> list[list[str]]:
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))


def test_the_list_is_exported_as_it_is_filtered(browser: httpx.Client) -> None:
    score(ann=20, ben=30, bob=40, big=5000)
    services.block(user_id="bob", actor="test", reason="cheats")

    answer = browser.get(f"{USERS}export/", params={"q": "b", "band": "1-99"})

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="users-\d{8}-\d{6}\.csv"', answer.headers["content-disposition"])
    head, *lines = rows(answer)
    assert head == ["user_id", "score", "state", "updated_at"]
    assert [line[:3] for line in lines] == [["bob", "40", "blocked"], ["ben", "30", "on the board"]]
    assert datetime.fromisoformat(lines[0][3]).tzinfo is not None
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.change_message) == ("mia", "Exported q=b&band=1-99")


def test_everybody_is_exported_beyond_what_a_list_shows(browser: httpx.Client) -> None:
    UserScore.objects.bulk_create(UserScore(user_id=f"user{number:05}", score=number) for number in range(12_345))

    answer = browser.get(f"{USERS}export/")

    assert [line[0] for line in rows(answer)[1:]] == [f"user{number:05}" for number in reversed(range(12_345))]


def test_the_file_is_sent_while_it_is_read(browser: httpx.Client) -> None:
    UserScore.objects.bulk_create(UserScore(user_id=f"user{number:05}", score=number) for number in range(12_345))

    with browser.stream("GET", f"{USERS}export/") as answer:
        pieces = sum(1 for _ in answer.iter_raw())

    assert "content-length" not in answer.headers
    assert pieces > 1


PLAIN = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\tann"]
FULL_WIDTH = ["＝1+1", "＋1", "－1", "＠SUM(A1)"]
SMALL_AND_RAISED = ["﹦1", "﹢1", "﹣1", "﹫1", "⁼1", "₊1", "−1"]
AFTER_BLANKS = [" =1", "\u3000＝1", "\u00a0+1"]


@pytest.mark.parametrize("name", PLAIN + FULL_WIDTH + SMALL_AND_RAISED + AFTER_BLANKS)
def test_no_cell_begins_a_formula(name: str) -> None:
    assert escape_formula(name) == f"'{name}"


@pytest.mark.parametrize("name", ["ann", "a=b", "1+1", "'", "", " ", "Zoë", "<b>", "ａnn", " ann"])
def test_other_cells_stay_as_they_are(name: str) -> None:
    assert escape_formula(name) == name


def test_a_formula_among_the_users_is_exported_as_a_text(browser: httpx.Client) -> None:
    score(**{'=HYPERLINK("http://x","y")': 1, "Zoë, the 1st": 2})

    assert [line[0] for line in rows(browser.get(f"{USERS}export/"))[1:]] == [
        "Zoë, the 1st",
        '\'=HYPERLINK("http://x","y")',
    ]


@pytest.mark.parametrize("asked", [{"score__gte": "many"}, {"nothing": "such"}])
def test_a_list_that_does_not_exist_is_no_file(asked: dict[str, str], browser: httpx.Client) -> None:
    answer = browser.get(f"{USERS}export/", params=asked)

    assert answer.status_code == 302


def test_viewers_export_nothing(copy: Redis) -> None:
    score(ann=20)

    assert logged_in(member_of("Viewers", "vic")).get(f"{USERS}export/").status_code == 403
