"""Boards in the admin: who may do what with them, and what their pages say."""

from __future__ import annotations

import csv
import html
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis import Redis

from scores.admin import boards as pages
from scores.admin.filters import BoardFilter
from scores.boards import definitions
from scores.boards.documents import document
from scores.boards.follower import BoardFollower
from scores.log.head import log
from scores.models import Board, BoardPosition, BoardStanding, Period
from tests.scores.boards.test_follower import add, lap, make, settle
from tests.scores.conftest import stopped

from .test_admin import EVENTS, cells, logged_in
from .test_moderation import member_of, told

BOARDS = "/admin/scores/board/"
WEEKLY = {
    "name": "weekly",
    "title": "This week",
    "fold": "sum",
    "order": "higher",
    "ties": "first",
    "period": "weekly",
    "zone": "Europe/Berlin",
    "cutTime": "06:00",
    "cutWeekday": "sunday",
    "submitters": "players",
    "keep": "8",
    "isPublic": "on",
}


@pytest.fixture
def admin(copy: Redis) -> Client:
    return logged_in(member_of("Admins", "mia"))


def page_of(board: Board, name: str = "change") -> str:
    return f"{BOARDS}{board.pk}/{name}/"


def errors(page: Any) -> dict[str, list[str]]:
    return {field: list(told) for field, told in page.context["form"].errors.items()}


def seen(client: Client, board: Board) -> dict[str, Any]:
    """What the page's form has before anybody edits it."""
    form = client.get(page_of(board)).context["form"]
    values = {name: form[name].initial for name in form.fields}
    return {name: "on" if value is True else value for name, value in values.items() if value not in (None, False)}


def texts(page: Any, row: str) -> list[list[str]]:
    lines = re.findall(rf'<tr class="{row}">(.*?)</tr>', page.content.decode())
    return [[html.unescape(re.sub("<[^>]+>", "", c)) for c in re.findall("<t[dh].*?</t[dh]>", line)] for line in lines]


def body_of(answer: Any) -> bytes:
    async def parts() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    return async_to_sync(parts)()


# Definitions


def test_a_board_is_made(admin: Client) -> None:
    assert 'name="cutWeekday"' in admin.get(f"{BOARDS}add/").content.decode()

    answer: Any = admin.post(f"{BOARDS}add/", WEEKLY)

    board = Board.objects.get()
    assert (answer.status_code, answer.url) == (302, page_of(board))
    assert told(answer) == ["The board weekly was created."]
    expected = {**WEEKLY, "stream": False, "keep": 8, "isPublic": True, "archived": False, "settleSeconds": 600}
    del expected["submitters"]  # which a board without a stream of its own does not have
    assert document(definitions.definition_of(board)) == expected
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.object_repr, entry.user.username) == (str(board.pk), "weekly", "mia")


def test_a_board_gets_rewards_and_a_webhook(admin: Client) -> None:
    closes = {"rewards": "1 500\n3-10 50", "webhookUrl": "https://game.example/x", "webhookSecret": "x" * 16}
    admin.post(f"{BOARDS}add/", {**WEEKLY, "keep": "8", **closes, "settleSeconds": "60"})

    board = Board.objects.get()
    definition = document(definitions.definition_of(board))

    assert (definition["rewards"], definition["settleSeconds"]) == ({"1": 500, "3-10": 50}, 60)
    page = admin.get(f"{BOARDS}{board.pk}/change/").content.decode()
    assert "3-10 50" in page
    assert "x" * 16 not in page
    wrong = admin.post(f"{BOARDS}add/", {**WEEKLY, "name": "other", **closes, "rewards": "first: 5"})
    assert errors(wrong).keys() == {"rewards"}


def test_all_mistakes_are_shown_at_their_fields(admin: Client) -> None:
    wrong = {**WEEKLY, "name": "Weekly!", "cutTime": "25:00", "everyHours": "3", "least": "5", "keep": "x"}

    page = admin.post(f"{BOARDS}add/", wrong)

    assert page.status_code == 200
    assert errors(page).keys() == {"keep"}  # which is no number at all
    assert errors(admin.post(f"{BOARDS}add/", wrong | {"keep": "-1"})).keys() == {
        *("name", "cutTime", "everyHours", "least", "keep")
    }
    seasons = "2026-12-01T00:00:00Z 2026-12-02T00:00:00Z\n\nthen"
    season = {"name": "s", "fold": "sum", "period": "season", "zone": "UTC", "seasons": seasons}
    assert errors(admin.post(f"{BOARDS}add/", season)) == {"seasons": ["Line 2: Expected startsAt and endsAt."]}
    assert not Board.objects.exists()


def test_a_name_is_given_once_and_boards_have_a_limit(admin: Client, settings: Any) -> None:
    make("weekly")
    assert errors(admin.post(f"{BOARDS}add/", WEEKLY)) == {"name": ["There is a board with this name already."]}
    settings.MAX_BOARDS = 1
    page = admin.post(f"{BOARDS}add/", WEEKLY | {"name": "other"})
    assert errors(page) == {"__all__": ["There are as many boards as MAX_BOARDS allows."]}
    assert "as many boards as" in page.content.decode()


def test_a_board_is_changed_and_what_is_fixed_is_shown(admin: Client) -> None:
    board = make("laps", fold="best", order="lower", stream=True, least=10, keep=2, period="daily")
    page = admin.get(page_of(board))
    assert set(page.context["form"].fields) == {
        *("seen", "title", "isPublic", "least", "most", "submitters", "keep"),
        *("settleSeconds", "rewards", "webhookUrl", "webhookSecret"),
    }
    assert ("Order", "lower") in page.context["fixed"]

    answer = admin.post(page_of(board), seen(admin, board) | {"title": "Fastest lap", "least": "", "fold": "sum"})

    assert (answer.status_code, told(answer)) == (302, ["The board laps was changed."])
    board.refresh_from_db()
    assert (board.title, board.least, board.keep, board.fold) == ("Fastest lap", None, 2, "best")
    assert LogEntry.objects.get().change_message == "Changed title, least"


def test_seasons_are_edited_as_lines(admin: Client) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [(today + timedelta(days=n)).isoformat().replace("+00:00", "Z") for n in range(10)]
    board = make("cup", period="season", seasons=[{"startsAt": days[0], "endsAt": days[1]}])
    form = seen(admin, board)
    assert form["seasons"] == f"{days[0]} {days[1]}"

    overlapping = admin.post(page_of(board), form | {"seasons": f"{form['seasons']}\n{days[0]} {days[3]}"})
    assert errors(overlapping) == {"seasons": ["Line 2: This season starts before the last one ends."]}
    begun = admin.post(page_of(board), form | {"seasons": f"{days[5]} {days[6]}"})
    assert errors(begun) == {"seasons": ["This cannot be changed any more: seasons."]}
    admin.post(page_of(board), form | {"seasons": f"{form['seasons']}\n{days[5]} {days[6]}"})

    assert Period.objects.filter(board=board).count() == 2


def test_a_board_that_was_archived_before_its_first_season_has_a_page(admin: Client) -> None:
    season = {"startsAt": "2127-01-01T00:00:00Z", "endsAt": "2127-02-01T00:00:00Z"}
    board = make("cup", period="season", seasons=[season], archived=True)

    page = admin.get(page_of(board))

    assert "Seasons" not in dict(page.context["fixed"])
    like = admin.get(f"{BOARDS}add/?like={board.pk}").context["form"]
    assert like["seasons"].value() == ""
    values = {name: like[name].value() for name in ("fold", "order", "ties", "period", "zone")} | {"name": "cup-2"}
    assert errors(admin.post(f"{BOARDS}add/", values)) == {"seasons": ["A board with the period season needs seasons."]}
    admin.post(f"{BOARDS}add/", values | {"seasons": f"{season['startsAt']} {season['endsAt']}"})
    assert Board.objects.filter(name="cup-2").exists()


def test_a_number_is_shown_as_a_number(admin: Client) -> None:
    board = make("fast", period="hours", everyHours=1, anchor="2026-01-01T00:00:00Z", isPublic=False)

    fixed = dict(admin.get(page_of(board)).context["fixed"])

    assert (fixed["Every hours"], fixed["Stream of its own"]) == (1, "no")


def test_of_two_admins_the_second_is_told(admin: Client) -> None:
    board = make("weekly", title="old")
    form = seen(admin, board)
    definitions.change("weekly", {"title": "theirs"}, "ann")

    page = admin.post(page_of(board), form | {"title": "mine"})

    assert errors(page) == {
        "__all__": ["Somebody else has changed this board since you opened it. Open the page again."]
    }
    assert "Open the page again" in page.content.decode()
    assert Board.objects.get().title == "theirs"
    assert not LogEntry.objects.exists()
    definitions.delete("weekly")
    assert admin.post(page_of(board), form).status_code == 404
    for name in ("archive", "rebuild", "delete"):
        assert admin.post(page_of(board, name)).status_code == 404


def test_one_is_made_like_another(admin: Client) -> None:
    board = make("weekly", title="This week", period="weekly", zone="Europe/Berlin", cutWeekday="sunday")
    form = admin.get(page_of(board)).context["tools"]
    assert ("Make one like this", f"{BOARDS}add/?like={board.pk}") in form

    page = admin.get(f"{BOARDS}add/?like={board.pk}")

    form = page.context["form"]
    assert (form["name"].value(), form["title"].value(), form["cutWeekday"].value()) == (None, "This week", "sunday")
    assert admin.get(f"{BOARDS}add/?like=x").status_code == 404


def test_a_board_is_archived_after_a_confirmation(admin: Client) -> None:
    board = make("weekly", period="weekly")
    assert "Nothing new counts" in admin.get(page_of(board, "archive")).content.decode()
    assert Board.objects.get().archived_at is None

    assert told(admin.post(page_of(board, "archive"))) == ["The board weekly is archived."]

    assert Board.objects.get().archived_at is not None
    page = admin.get(page_of(board))
    assert ("Archived", "yes") in page.context["fixed"]
    assert not any(url.endswith("/archive/") for _, url in page.context["tools"])
    admin.post(page_of(board), seen(admin, board) | {"title": "Old"})
    assert Board.objects.get().title == "Old"


def test_a_board_is_deleted_and_what_the_page_leaves_the_follower_removes(
    admin: Client, follower: BoardFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = make("laps", fold="best", stream=True)
    for number in range(5):
        lap(f"user-{number}", 7)
    settle(follower)
    monkeypatch.setattr(definitions, "STANDINGS_PER_TRANSACTION", 2)
    monkeypatch.setattr(pages, "DELETE_MOST_S", 0.0)
    assert "everybody's standings" in html.unescape(admin.get(page_of(board, "delete")).content.decode())

    answer: Any = admin.post(page_of(board, "delete"))

    assert (answer.url, told(answer)) == (BOARDS, ["The board laps was deleted."])
    assert not Board.objects.exists()
    assert LogEntry.objects.get().object_repr == "laps"
    assert BoardStanding.objects.count() == 3
    settle(follower)
    assert BoardStanding.objects.count() == 0
    assert log.head().seq == 5


def test_a_board_whose_stream_others_rank_is_not_deleted(admin: Client) -> None:
    board = make("laps", fold="best", stream=True)
    make("weekly-laps", fold="best", stream="laps", period="weekly")

    page = admin.post(page_of(board, "delete"))

    (sentence,) = errors(page)["__all__"]
    assert "rank the stream of this one: weekly-laps." in sentence
    assert sentence in page.content.decode()
    assert Board.objects.count() == 2
    assert not LogEntry.objects.exists()


def test_a_rebuild_that_the_database_refuses_is_not_logged(admin: Client) -> None:
    board = make("laps", fold="best", stream=True)
    admin.raise_request_exception = False
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE board_positions RENAME TO board_positions_away")
    try:
        assert admin.post(page_of(board, "rebuild")).status_code >= 500
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE board_positions_away RENAME TO board_positions")

    assert not LogEntry.objects.exists()


# What boards have come to


def test_the_list_says_where_boards_are(admin: Client, follower: BoardFollower) -> None:
    make("weekly", period="weekly")
    make("laps", fold="best", order="lower", stream=True)
    add("ann", 5)
    settle(follower)
    add("ann", 5)
    make("young", action="win")

    page = admin.get(BOARDS)

    assert cells(page, "name") == ["laps", "weekly", "young"]
    assert cells(page, "rules")[0] == "best, lower, first"
    assert cells(page, "cut") == ["forever", "weekly in UTC", "forever"]
    assert cells(page, "state") == ["public", "public", "public"]
    assert cells(page, "source") == ["own stream", "points", "action win"]
    assert cells(page, "current")[::2] == ["1", "1"]
    assert re.fullmatch("[12], until 20[0-9-]{8} 00:00 UTC", cells(page, "current")[1])
    assert cells(page, "in_postgresql") == ["1, 1 behind", "1, 1 behind", "being built"]
    assert cells(page, "in_redis") == ["1, 1 behind", "1, 1 behind", "—"]
    with CaptureQueriesContext(connection) as with_three:
        admin.get(BOARDS)
    for number in range(5):
        make(f"more-{number}", period="daily")
    with CaptureQueriesContext(connection) as with_eight:
        assert len(cells(admin.get(BOARDS), "name")) == 8
    assert len(with_eight) == len(with_three)


def test_the_page_shows_who_stands_where_and_the_periods(admin: Client, follower: BoardFollower) -> None:
    board = make("laps", fold="best", order="lower", stream=True)
    for user, score in (("ann", 700), ("bob", 700), ("cem", -1_300), ("dan", 900)):
        lap(user, score)
    assert "being built" in admin.get(page_of(board)).content.decode()
    settle(follower)

    page = admin.get(page_of(board))

    assert texts(page, "entry") == [
        ["1", "1", "cem", "-1,300"],
        ["2", "2", "ann", "700"],
        ["3", "2", "bob", "700"],
        ["4", "4", "dan", "900"],
    ]
    assert texts(page, "period") == [["1", "—", "—", "1 to now", "4", "—"]]
    assert "Nobody stands" in admin.get(f"{page_of(board)}?period=7").content.decode()
    assert admin.get(f"{page_of(board)}?period=x&before=99999999999999999999").status_code == 200
    for nothing in ("999999", "x", "99999999999999999999", "_00"):
        assert admin.get(f"{BOARDS}{nothing}/change/").status_code == 404


def test_a_period_is_exported(admin: Client, follower: BoardFollower) -> None:
    board = make("laps", fold="best", stream=True)
    for user, score in (("=cmd()", 700), ("bob", 700), ("cem", -1_300)):
        lap(user, score)
    settle(follower)

    answer = admin.get(f"{page_of(board, 'csv')}?period=1")

    assert answer["Content-Disposition"].startswith('attachment; filename="laps-1-')
    assert "no-store" in answer["Cache-Control"]
    rows = list(csv.reader(io.StringIO(body_of(answer).decode("utf-8-sig"))))
    assert rows == [
        ["rank", "position", "user_id", "score"],
        ["1", "1", "'=cmd()", "700"],
        ["1", "2", "bob", "700"],
        ["3", "3", "cem", "-1300"],
    ]
    assert LogEntry.objects.get().change_message == "Exported period 1"
    for period in ("2", "x", ""):
        assert admin.get(f"{page_of(board, 'csv')}?period={period}").status_code == 404


def test_one_board_is_rebuilt(admin: Client, follower: BoardFollower, redis: Redis) -> None:
    board, other = make("laps", fold="best", stream=True), make("points")
    lap("ann", 700)
    add("ann", 5)
    settle(follower)
    BoardStanding.objects.filter(board=board).update(key=1)  # by somebody's hand
    redis.zadd(f"{{leaderboard}}:board:{board.id}:1", {"x": 1})
    assert "board_building" in admin.get(page_of(board, "rebuild")).content.decode()

    assert told(admin.post(page_of(board, "rebuild"))) == ["The board laps is being built anew."]

    assert [position.board_id for position in BoardPosition.objects.all()] == [other.id]
    assert LogEntry.objects.get().change_message == "Rebuilt"
    settle(follower)
    assert BoardStanding.objects.get(board=board).key == 700
    assert cells(admin.get(BOARDS), "in_redis") == ["2", "2"]
    assert texts(admin.get(page_of(board)), "entry") == [["1", "1", "ann", "700"]]


def test_without_redis_the_pages_say_so_and_a_rebuild_is_half_done(
    admin: Client, follower: BoardFollower, redis: Redis
) -> None:
    board = make("laps", fold="best", stream=True)
    lap("ann", 700)
    settle(follower)

    with stopped(redis):
        assert cells(admin.get(BOARDS), "in_redis") == ["no answer"]
        assert admin.get(page_of(board)).status_code == 200
        (sentence,) = told(admin.post(page_of(board, "rebuild")))

    assert sentence.endswith("but not its copy in Redis: The copy in Redis is away.")
    assert not BoardPosition.objects.exists()


def test_events_are_filtered_by_board(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make("laps", fold="best", stream=True)
    make("runs", fold="best", stream=True)
    for board in ("laps", "runs", "laps"):
        lap("ann", 7, board)
    add("ann")

    page = admin.get(f"{EVENTS}?board=laps")
    assert cells(page, "seq") == ["3", "1"]
    assert "?board=runs" in page.content.decode()
    assert cells(admin.get(f"{EVENTS}?board=x"), "seq") == []
    monkeypatch.setattr(BoardFilter, "MAX_NEWEST", 2)
    assert cells(admin.get(f"{EVENTS}?board=laps"), "seq") == ["3"]


def test_a_board_that_ranks_the_stream_of_another_is_shown_as_one(admin: Client) -> None:
    make("laps", fold="best", stream=True)
    make("laps-of-the-week", fold="best", stream="laps", period="weekly")
    make("weekly", period="weekly")
    lap("ann", 7)
    add("ann")

    assert cells(admin.get(BOARDS), "source") == ["own stream", "stream laps", "points"]
    page = admin.get(f"{EVENTS}?board=laps-of-the-week")
    assert cells(page, "seq") == ["1"]
    assert cells(page, "stream_name") == ["laps"]
    assert "?board=laps" in page.content.decode()


# Permissions


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("Viewers", set()),
        ("Moderators", {"csv"}),
        ("Admins", {"csv", "add", "change", "archive", "rebuild", "delete"}),
    ],
)
def test_what_each_group_may(copy: Redis, role: str, allowed: set[str]) -> None:
    board = make("laps", fold="best", stream=True)
    client = logged_in(member_of(role, "mia"))
    page = client.get(page_of(board))
    assert (client.get(BOARDS).status_code, page.status_code) == (200, 200)
    addresses = {name: page_of(board, name) for name in ("change", "archive", "rebuild", "delete")}
    addresses |= {"add": f"{BOARDS}add/", "csv": f"{page_of(board, 'csv')}?period=1"}
    shown = {url for _, url in page.context["tools"]}

    for name, address in addresses.items():
        answer = client.get(address) if name in ("csv", "add") else None
        if name in allowed:
            assert answer is None or answer.status_code == 200, name
            if name not in ("change", "add"):
                assert address in shown
        else:
            assert (answer or client.post(address)).status_code == 403, name
            assert address not in shown
    assert (page.context["form"] is not None) == ("change" in allowed)


def test_a_stranger_sees_nothing(copy: Redis) -> None:
    board = make("laps", fold="best", stream=True)
    client = logged_in(member_of("Viewers", "mia"))
    client.logout()
    for name in ("change", "csv", "archive", "rebuild", "delete"):
        answer: Any = client.get(page_of(board, name))
        assert (answer.status_code, "/admin/login/" in answer.url) == (302, True)
