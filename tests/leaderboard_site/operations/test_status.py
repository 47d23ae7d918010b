"""The status page: what it says of the log, the copy and the processes, and its button."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from redis import Redis
from websockets.sync.client import connect

from leaderboard_site.operations.processes import BELIEVED_S, ProcessReporter, everyone, open_sockets
from scores import services
from scores.projection.leaderboard import leaderboard
from scores.stores import presence
from tests.polling import until
from tests.scores.admin.test_admin import logged_in
from tests.scores.admin.test_moderation import member_of
from tests.scores.conftest import stopped
from tools.servers import Server

STATUS = "/admin/status/"


@pytest.fixture
def admin(board: None) -> Client:
    return logged_in(User.objects.create_superuser("root"))


def text_of(content: str) -> str:
    """What a reader sees, in one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", content, flags=re.DOTALL)))


def page(client: Client) -> str:
    answer = client.get(STATUS)
    assert answer.status_code == 200
    return text_of(answer.content.decode())


@pytest.fixture
def browser(server: Server) -> Iterator[httpx.Client]:
    session = logged_in(member_of("Admins", "ada")).cookies["sessionid"].value
    with httpx.Client(base_url=server.url, cookies={"sessionid": session}, timeout=30) as client:
        yield client


def eventually(browser: httpx.Client, *said: str) -> str:
    """The page, as soon as it says this."""
    seen = ""

    def says() -> bool:
        nonlocal seen
        seen = text_of(browser.get(STATUS).text)
        return all(part in seen for part in said)

    until(says)
    return seen


def test_the_page_tells_how_far_log_and_copy_are(admin: Client) -> None:
    leaderboard.rebuild()
    services.correct(user_id="ann", total=20, actor="test", reason="start")

    seen = page(admin)

    assert "Log in PostgreSQL 1 1" in seen
    assert "Copy in Redis 1 1" in seen
    assert "The copy is at the end of the log. Reads come from Redis." in seen


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda redis: redis.flushdb(), "The copy is missing."),
        (lambda redis: redis.zadd("leaderboard", {"eve": 1}), "The copy is damaged."),
        (lambda redis: redis.hset("leaderboard:state", "origin", "x"), "The copy is foreign."),
        (lambda redis: redis.hset("leaderboard:state", "seq", 99), "The copy is ahead."),
        (lambda redis: redis.hset("leaderboard:state", "seq", 0), "The copy is 1 event behind."),
    ],
)
def test_the_page_tells_what_is_wrong_with_the_copy(
    harm: Callable[[Redis], object], said: str, admin: Client, redis: Redis
) -> None:
    services.correct(user_id="ann", total=20, actor="test", reason="start")
    leaderboard.rebuild()

    harm(redis)

    assert said in page(admin)


def test_without_redis_the_page_says_so(admin: Client, redis: Redis) -> None:
    services.correct(user_id="ann", total=20, actor="test", reason="start")
    leaderboard.rebuild()

    with stopped(redis):
        seen = page(admin)

    assert "Redis does not answer." in seen
    assert "Reads come from the database." in seen
    assert "There may be more processes" in seen


def test_the_page_tells_of_the_last_rebuild(admin: Client) -> None:
    assert "This Redis has no record of a rebuild." in page(admin)

    services.correct(user_id="ann", total=20, actor="test", reason="start")
    leaderboard.rebuild(why="<b>me</b>")

    assert re.search(r"last rebuilt on .* UTC, in \d\.\d\d s, of 1 user at event 1: <b>me</b>", page(admin))


def test_the_page_is_asked_for_with_few_questions(
    admin: Client, django_assert_max_num_queries: Callable[..., ExitStack]
) -> None:
    leaderboard.rebuild()
    for number in range(10):
        LogEntry.objects.create(
            user=User.objects.get(),
            content_type_id=content_type(),
            object_repr="x",
            action_flag=2,
            change_message=f"number {number}",
        )
    page(admin)

    with django_assert_max_num_queries(7):
        seen = page(admin)

    assert re.findall(r"number \d", seen) == [f"number {number}" for number in range(9, 4, -1)]


def content_type() -> int:
    from leaderboard_site.operations.status import of_board

    return of_board().pk


def test_open_sockets_are_counted(server: Server, browser: httpx.Client) -> None:
    assert "All processes 0" in eventually(browser, "(this page)")

    with connect(server.ws_url), connect(server.ws_url):
        eventually(browser, "All processes 2")

    eventually(browser, "All processes 0")


def test_every_process_is_listed_until_it_has_been_silent(server: Server, browser: httpx.Client, redis: Redis) -> None:
    other = ProcessReporter()
    other.start()  # of the process of the tests
    try:
        seen = eventually(browser, f":{os.getpid()} ")
        assert seen.count("(this page)") == 1
    finally:
        other.stop()

    left_s: Any = redis.ttl(presence.KEY)
    assert 0 < left_s <= BELIEVED_S


def test_what_another_version_tells_is_left_out(board: None) -> None:
    presence.tell("elsewhere:1", '["elsewhere", 1]', for_s=5)

    processes, asked = everyone()

    assert asked
    assert [process.pid for process in processes] == [os.getpid()]


def test_a_process_that_is_silent_is_forgotten(redis: Redis) -> None:
    presence.tell("elsewhere:2", "here", for_s=5)
    redis.hset(presence.KEY, "elsewhere:1", "1700000000 gone")

    assert presence.told() == ["here"]
    assert redis.hkeys(presence.KEY) == [b"elsewhere:2"]


def test_the_page_does_not_look_through_the_keys_of_redis(admin: Client, redis: Redis) -> None:
    leaderboard.rebuild()
    redis.config_resetstat()

    page(admin)

    used: Any = redis.info("commandstats")
    assert not {"cmdstat_scan", "cmdstat_keys"} & used.keys()


def test_the_button_rebuilds_and_says_when_it_is_done(server: Server, browser: httpx.Client, redis: Redis) -> None:
    services.correct(user_id="ann", total=20, actor="test", reason="start")
    form = browser.get(STATUS)

    answer = browser.post(f"{STATUS}rebuild/", data={"csrfmiddlewaretoken": form.cookies["csrftoken"]})

    assert (answer.status_code, answer.headers["location"]) == (302, STATUS)
    eventually(browser, "Rebuilt 1 members at event 1", ": ada asked for it")
    assert LogEntry.objects.get().user.get_username() == "ada"


def test_one_rebuild_at_a_time(admin: Client) -> None:
    leaderboard.rebuild()
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtext('leaderboard rebuild'))")

        answer = admin.post(f"{STATUS}rebuild/", follow=True)

        seen = text_of(answer.content.decode())
        assert "A rebuild is already under way." in seen
        assert "A rebuild is under way." in seen
        assert answer["Refresh"] == "2"
    finally:
        other.close()
    until(lambda: "A rebuild is under way." not in page(admin))
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("role", "looks", "rebuilds"), [("Viewers", 200, 403), ("Moderators", 200, 403), ("Admins", 200, 302)]
)
def test_each_role_may_do_what_its_name_says(role: str, looks: int, rebuilds: int, board: None) -> None:
    client = logged_in(member_of(role, "mia"))

    seen = client.get(STATUS)
    assert seen.status_code == looks
    assert ("Rebuild the copy" in seen.content.decode()) == (rebuilds == 302)
    assert client.post(f"{STATUS}rebuild/").status_code == rebuilds
    if rebuilds == 302:
        until(LogEntry.objects.exists)


def test_others_are_not_told(board: None) -> None:
    assert Client().get(STATUS).url.startswith("/admin/login/")  # type: ignore[attr-defined]  # of a redirect
    assert logged_in(User.objects.create_user("staff", is_staff=True)).get(STATUS).status_code == 403
    assert "Status" not in logged_in(User.objects.get()).get("/admin/").content.decode()


def test_the_button_is_no_link(admin: Client) -> None:
    assert admin.get(f"{STATUS}rebuild/").status_code == 405


def test_the_sockets_of_all_processes_are_counted_if_any_says_so(redis: Redis) -> None:
    assert open_sockets() is None

    for name, sockets in (("a:1", 3), ("b:1", 4)):
        process = ProcessReporter().here()._replace(host=name, sockets=sockets)
        presence.tell(name, json.dumps(process), for_s=5)
    presence.tell("c:1", "of another program", for_s=5)

    assert open_sockets() == 7
    with stopped(redis):
        assert open_sockets() is None
