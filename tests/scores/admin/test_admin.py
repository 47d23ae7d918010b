"""The admin's pages about scores: what they show, what they cost, and that nothing is edited on them."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis import Redis

from scores import services
from scores.admin.paging import MAX_LISTED
from scores.models import ScoreEvent, UserScore

USERS = "/admin/scores/userscore/"
EVENTS = "/admin/scores/scoreevent/"


@pytest.fixture
def admin(copy: Redis) -> Client:
    return logged_in(User.objects.create_superuser("admin"))


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def score(**totals: int) -> None:
    for user_id, total in totals.items():
        services.correct(user_id=user_id, total=total, actor="test", reason="start")


def score_all(totals: Iterable[tuple[str, int]]) -> None:
    """The same by increments, one after the other, in one transaction."""

    async def increments() -> None:
        await asyncio.gather(*(services.increment(user_id=user_id, points=points) for user_id, points in totals))

    asyncio.run(increments())


def cells(page: Any, column: str) -> list[str]:
    """The texts of one column, from the top."""
    found = re.findall(rf'<t[dh] class="field-{column}[^"]*">(.*?)</t[dh]>', page.content.decode(), re.DOTALL)
    return [html.unescape(re.sub("<[^>]+>", "", cell)).strip() for cell in found]


def value(page: Any, field: str) -> str:
    """The text of one field on the page of one thing."""
    pattern = rf'field-{field}".*?<div class="readonly">(.*?)</div>'
    (found,) = re.findall(pattern, page.content.decode(), re.DOTALL)
    return html.unescape(re.sub("<[^>]+>", "", found))


def commands_during(act: Callable[[], object], redis: Redis) -> list[str]:
    """What was sent to Redis meanwhile, other than by scripts."""
    with redis.monitor() as monitor:  # type: ignore[no-untyped-call]
        redis.echo("start")  # on a new connection, the monitor has the one there was: the greeting is not counted
        act()
        redis.echo("end")
        told = iter(monitor.next_command, None)
        here = (t["command"] for t in told if t["client_type"] != "lua")
        commands = list(takewhile(lambda command: command != "ECHO end", here))
    return commands[commands.index("ECHO start") + 1 :]


def test_users_are_listed_in_the_order_of_the_board(admin: Client) -> None:
    score(ann=20, ben=30, cem=20, dan=10)

    page = admin.get(USERS)

    assert cells(page, "user_id") == ["ben", "cem", "ann", "dan"]
    assert cells(page, "score") == ["30", "20", "20", "10"]
    assert cells(page, "rank") == ["1", "2", "2", "4"]


def test_all_ranks_of_a_page_cost_one_round_trip(admin: Client, copy: Redis) -> None:
    score_all((f"user{number}", number) for number in range(1, 61))
    admin.get(USERS)  # Redis knows the script from here on

    commands = commands_during(lambda: cells(admin.get(USERS), "rank"), copy)

    assert len(commands) == 1
    assert commands[0].count("standing") == 50


def test_the_second_page_goes_on_where_the_first_ends(admin: Client) -> None:
    score_all((f"user{number}", number) for number in range(1, 61))

    page = admin.get(USERS, {"p": 2})

    assert cells(page, "score") == [str(number) for number in range(10, 0, -1)]
    assert cells(page, "rank") == [str(rank) for rank in range(51, 61)]


def test_a_user_who_is_off_the_board_has_no_rank(admin: Client) -> None:
    score(ann=20, eve=99)
    services.block(user_id="eve", actor="test", reason="cheats")

    page = admin.get(USERS)

    assert cells(page, "user_id") == ["eve", "ann"]
    assert cells(page, "rank") == ["—", "1"]


def test_without_an_answer_there_are_no_ranks(admin: Client, copy: Redis) -> None:
    score(ann=20)
    copy.flushdb()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")

    with psycopg.connect(**psycopg_parameters()) as other:
        other.execute("LOCK TABLE leaderboards")
        page = admin.get(USERS)

    assert (cells(page, "score"), cells(page, "rank")) == (["20"], ["—"])


def psycopg_parameters() -> dict[str, Any]:
    parameters = connection.get_connection_params()
    return {name: parameters[name] for name in ("dbname", "user", "host")}


@pytest.mark.parametrize(("state", "users"), [("no", ["ann"]), ("yes", ["eve"])])
def test_users_are_told_apart_by_their_state(state: str, users: list[str], admin: Client) -> None:
    score(ann=20, eve=99)
    services.block(user_id="eve", actor="test", reason="cheats")

    assert cells(admin.get(USERS, {"blocked": state}), "user_id") == users


@pytest.mark.parametrize(
    ("term", "users"),
    [
        ("ann", ["ann", "anna", "ann%"]),
        ("nn", []),
        ("Ann", ["Ann"]),
        ("ann%", ["ann%"]),
        ("an_a", []),
        ("ann ", []),
    ],
)
def test_a_search_finds_the_very_user_and_then_those_who_begin_so(term: str, users: list[str], admin: Client) -> None:
    score(**{"ann": 1, "anna": 30, "ann%": 20, "Ann": 10})

    assert cells(admin.get(USERS, {"q": term}), "user_id") == users


def test_a_search_reads_a_range_of_the_key(admin: Client) -> None:
    UserScore.objects.bulk_create(UserScore(user_id=f"user{number}") for number in range(5000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE user_scores")  # which plan is best depends on what the planner thinks is there

    with CaptureQueriesContext(connection) as queries:
        admin.get(USERS, {"q": "ann"})

    (search,) = [q["sql"] for q in queries if "LIKE" in q["sql"] and "COUNT" not in q["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {search}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "user_scores_pkey" in plan
    assert "Index Cond: (((user_id)::text >= 'ann'::text)" in plan


def test_the_page_of_a_user_tells_where_they_stand(admin: Client) -> None:
    score(ann=20, ben=30)

    page = admin.get(f"{USERS}ann/change/")

    assert [value(page, field) for field in ("user_id", "rank", "state")] == ["ann", "2", "On the board"]
    assert value(page, "score") == "20"


def test_the_page_of_a_blocked_user_tells_why(admin: Client) -> None:
    score(eve=99)
    services.block(user_id="eve", actor="mod", reason="used <b>bots</b>")

    page = admin.get(f"{USERS}eve/change/")

    assert value(page, "state") == "Blocked by mod in event 2: used <b>bots</b>"
    assert value(page, "rank") == "—"
    assert f'<a href="{EVENTS}2/change/">event 2</a>' in page.content.decode()


def test_the_newest_events_of_a_user_are_beneath(admin: Client) -> None:
    score_all([("ann", 1), ("ben", 1)] * 60)

    with CaptureQueriesContext(connection) as queries:
        page = admin.get(f"{USERS}ann/change/")

    assert cells(page, "seq") == [str(seq) for seq in range(119, 19, -2)]
    reads = [q["sql"] for q in queries if 'FROM "score_events" WHERE' in q["sql"] and '"user_id" =' in q["sql"]]
    assert sorted(read.rpartition(" LIMIT ")[2] for read in reads) == ["200", "50"]  # drawn, listed


def test_the_log_is_listed_from_its_end(admin: Client) -> None:
    score(ann=20, ben=30)
    services.block(user_id="ann", actor="mod", reason="cheats")

    page = admin.get(EVENTS)

    assert cells(page, "seq") == ["3", "2", "1"]
    assert cells(page, "player") == ["ann", "ben", "ann"]
    assert cells(page, "kind_name") == ["Block", "Correction", "Correction"]
    assert cells(page, "points") == ["0", "30", "20"]
    assert cells(page, "actor") == ["mod", "test", "test"]


def test_the_log_is_not_counted(admin: Client) -> None:
    score_all([("ann", 1)] * 60)

    with CaptureQueriesContext(connection) as queries:
        page = admin.get(EVENTS, {"p": 2})

    assert cells(page, "seq") == [str(seq) for seq in range(10, 0, -1)]
    assert [q["sql"] for q in queries if "COUNT(" in q["sql"]] == []


@pytest.mark.parametrize(("order", "seqs"), [({}, range(21, 0, -1)), ({"o": "0"}, range(101, 122))])
def test_the_end_of_the_list_is_not_reached_by_skipping_rows(
    order: dict[str, str], seqs: Iterable[int], admin: Client
) -> None:
    score_all([("ann", 1)] * 121)

    with CaptureQueriesContext(connection) as queries:
        page = admin.get(EVENTS, {"p": "3", **order})

    assert cells(page, "seq") == [str(seq) for seq in seqs]
    assert [q["sql"] for q in queries if "OFFSET" in q["sql"]] == []


def test_what_is_found_is_listed_in_pages_too(admin: Client) -> None:
    score_all([("ann", 1), ("ben", 1)] * 60)

    assert cells(admin.get(EVENTS, {"q": "ann", "p": "2"}), "seq") == [str(seq) for seq in range(19, 0, -2)]


def test_of_what_is_found_in_the_log_no_more_than_is_listed_is_counted(admin: Client) -> None:
    score(ann=20)

    with CaptureQueriesContext(connection) as queries:
        admin.get(EVENTS, {"kind": "correction"})

    (counted,) = [q["sql"] for q in queries if "COUNT(" in q["sql"]]
    assert f"LIMIT {MAX_LISTED}" in counted


@pytest.mark.parametrize(
    ("asked", "seqs"),
    [({"q": "ann"}, ["3", "1"]), ({"q": "an"}, []), ({"kind": "block"}, ["3"]), ({"seq__lte": "2"}, ["2", "1"])],
)
def test_the_log_is_searched_by_user_and_filtered(asked: dict[str, str], seqs: list[str], admin: Client) -> None:
    score(ann=20, anna=30)
    services.block(user_id="ann", actor="mod", reason="cheats")

    assert cells(admin.get(EVENTS, asked), "seq") == seqs


@pytest.mark.parametrize(
    "user_id",
    [
        "Zoë",
        "日本",
        "a/b",
        'say "hi"',
        "o'neil",
        "a_2Fb",
        "?x=1#y",
        "100%",
        "a&b;c",
        " x ",
        "<script>alert(1)</script>",
    ],
)
def test_every_user_has_a_page_whatever_their_id(user_id: str, admin: Client) -> None:
    score(**{user_id: 20})

    for page in (admin.get(USERS), admin.get(EVENTS)):
        (link,) = re.findall(rf'href="({USERS}[^"?]+/change/)', page.content.decode())
        opened = admin.get(html.unescape(link))

        assert opened.status_code == 200
        assert value(opened, "user_id") == user_id
        assert "<script>alert" not in page.content.decode() + opened.content.decode()


@pytest.mark.parametrize("nobody", ["nobody", "nul%00"])
def test_who_is_not_there_has_no_page(nobody: str, admin: Client) -> None:
    assert admin.get(f"{USERS}{nobody}/change/").status_code == 302


@pytest.mark.parametrize("page", ["add/", "{}/change/", "{}/delete/"])
@pytest.mark.parametrize(("things", "one"), [(USERS, "ann"), (EVENTS, "1")])
def test_not_even_a_superuser_changes_anything(things: str, one: str, page: str, admin: Client) -> None:
    score(ann=20)

    answer = admin.post(things + page.format(one), {"user_id": "ann", "score": 1, "post": "yes"})

    assert answer.status_code == 403
    assert UserScore.objects.get().score == 20
    assert ScoreEvent.objects.count() == 1


@pytest.mark.parametrize(("things", "one"), [(USERS, "ann"), (EVENTS, "1")])
def test_nothing_is_deleted_from_a_list(things: str, one: str, admin: Client) -> None:
    score(ann=20)

    admin.post(things, {"action": "delete_selected", "_selected_action": one, "post": "yes"})

    assert "delete_selected" not in admin.get(things).content.decode()
    assert (UserScore.objects.count(), ScoreEvent.objects.count()) == (1, 1)


@pytest.mark.parametrize("page", [USERS, f"{USERS}ann/change/", EVENTS, f"{EVENTS}1/change/"])
def test_staff_see_what_they_were_permitted_to(page: str, copy: Redis) -> None:
    score(ann=20)
    staff = User.objects.create_user("staff", is_staff=True)

    assert Client().get(page).status_code == 302
    assert logged_in(staff).get(page).status_code == 403
    staff.user_permissions.set(Permission.objects.filter(codename__in=["view_userscore", "view_scoreevent"]))
    assert logged_in(staff).get(page).status_code == 200
