"""Pages and the doors to them: what a stranger may ask for, what is told of it, and addresses that are nearly right."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Group, User
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client
from websockets.sync.client import connect

from leaderboard_site.asgi_types import Receive, Scope, Send
from leaderboard_site.edge.deadline import Deadline
from leaderboard_site.edge.errors import late_page_response
from leaderboard_site.edge.forwarding import warning_about
from tests.polling import until
from tools.servers import Server

SIGN_IN = "/admin/login/"
LIMITS = {"READ_RATE_LIMIT": "10/minute", "TOKEN_RATE_LIMIT": "5/minute", "HANDSHAKE_RATE_LIMIT": "off"}
PASSWORD = "notes on the engine"


@pytest.fixture(scope="module")
def _strict(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "LOG_FORMAT": "json"} | LIMITS
    strict = Server(log=tmp_path_factory.mktemp("strict") / "log", env=env).start()
    yield strict
    strict.stop()


@pytest.fixture
def strict(_strict: Server, board: None) -> Server:
    """A server with limits, of which nothing is used up."""
    return _strict


@pytest.fixture
def site(strict: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=strict.url, verify=False, timeout=30) as client:
        yield client


def try_password(site: httpx.Client, username: str, password: str = "wrong") -> httpx.Response:
    form = site.get(SIGN_IN).text
    token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]*)"', form)[0]
    return site.post(SIGN_IN, data={"username": username, "password": password, "csrfmiddlewaretoken": token})


def lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def events(server: Server) -> list[str]:
    return [line["event"] for line in lines(server)]


# How often


def test_passwords_are_tried_in_the_admin_and_at_the_api_out_of_one_allowance(site: httpx.Client) -> None:
    wrong = {"username": "ann", "password": "wrong"}

    tried = [try_password(site, "ann").status_code for _ in range(3)]
    at_the_api = [site.post("/api/v1/auth/token", json=wrong).status_code for _ in range(2)]
    refused = try_password(site, "ann")

    assert (tried, at_the_api) == ([200] * 3, [401] * 2)
    assert refused.status_code == 429
    assert refused.headers["Content-Type"].startswith("text/html")
    assert 1 <= int(refused.headers["Retry-After"]) <= 61
    assert "Too many requests, try again in" in refused.text
    assert site.get(SIGN_IN).status_code == 200  # to read the form is not to try a password


@pytest.mark.parametrize("path", ["/", "/admin/", "/api/docs/", "/api/schema/", "/nothing"])
def test_pages_are_limited_by_address(path: str, site: httpx.Client) -> None:
    statuses = [site.get(path).status_code for _ in range(11)]

    assert 429 not in statuses[:10]
    assert statuses[10] == 429


@pytest.mark.parametrize("path", ["/static/leaderboard/page.js", "/healthz/live"])
def test_what_asks_no_store_is_not_counted(path: str, site: httpx.Client) -> None:
    assert {site.get(path).status_code for _ in range(12)} == {200}


def test_a_sign_in_that_waits_for_a_locked_table_is_given_up(server: Server, rival: BaseDatabaseWrapper) -> None:
    with rival.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE auth_user IN ACCESS EXCLUSIVE MODE")
        with httpx.Client(base_url=server.url, verify=False, timeout=30) as site:
            answer = try_password(site, "ann")
        cursor.execute("ROLLBACK")

    assert answer.status_code == 503
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Retry-After"] == "1"


async def test_a_page_that_is_given_up_says_that_its_view_goes_on() -> None:
    ended = asyncio.Event()
    sent: list[Mapping[str, Any]] = []

    async def view(scope: Scope, receive: Receive, send: Send) -> None:
        await ended.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await Deadline(view, answer_s=0.01, refusal=late_page_response)({}, asyncio.Event().wait, send)  # type: ignore[arg-type]
    ended.set()
    await asyncio.sleep(0)

    assert [message.get("status") for message in sent] == [503, None]
    assert b"may have happened all the same" in sent[1]["body"]


async def test_a_client_that_does_not_read_keeps_no_place() -> None:
    """Seven such clients stopped all sign-ins for half a minute."""

    async def view(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def unread(message: Mapping[str, Any]) -> None:
        await asyncio.Event().wait()

    async def read(message: Mapping[str, Any]) -> None:
        statuses.append(message.get("status"))

    statuses: list[int | None] = []
    deadline = Deadline(view, max_waiting=1)
    writing = asyncio.ensure_future(deadline({}, asyncio.Event().wait, unread))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await deadline({}, asyncio.Event().wait, read)  # type: ignore[arg-type]

    assert statuses == [200]
    assert not writing.done()
    writing.cancel()


# What is logged


def test_a_failed_sign_in_is_logged_with_its_address_and_without_its_password(
    strict: Server, site: httpx.Client
) -> None:
    name = "ann\n\x1b[2J\u202e" + "x" * 100

    try_password(site, name, PASSWORD)
    site.post("/api/v1/auth/token", json={"username": "bob", "password": PASSWORD})

    until(lambda: len([event for event in events(strict) if "'bob'" in event or "'ann\\n" in event]) == 2)
    in_the_admin, at_the_api = [
        line for line in lines(strict) if line["event"].startswith(("A sign-in as 'ann\\n", "A sign-in as 'bob"))
    ]
    assert in_the_admin["event"] == rf"A sign-in as 'ann\n\x1b[2J\u202e{'x' * (64 - 9)}…' from 127.0.0.1 failed"
    assert (in_the_admin["request"], at_the_api["request"]) == (f"POST {SIGN_IN}", "POST /api/v1/auth/token")
    assert at_the_api["event"] == "A sign-in as 'bob' from 127.0.0.1 failed"
    assert PASSWORD not in strict.log.read_text()


def test_a_player_with_the_right_password_is_logged_at_the_door_of_the_admin(
    strict: Server, site: httpx.Client
) -> None:
    User.objects.create_user("pia", password=PASSWORD)

    assert try_password(site, "pia", PASSWORD).status_code == 200  # the form again

    until(lambda: "A sign-in as 'pia' from 127.0.0.1 failed" in events(strict))


def test_a_refusal_has_no_line_and_a_foreign_host_has_one_without_a_traceback(
    strict: Server, site: httpx.Client
) -> None:
    moderator = User.objects.create_user("mia", is_staff=True)
    moderator.groups.add(Group.objects.get(name="Moderators"))
    client = Client()
    client.force_login(moderator)
    site.cookies["sessionid"] = client.cookies["sessionid"].value

    forbidden = site.get("/admin/auth/user/")
    foreign = site.get("/admin/", headers={"Host": "evil.example.org"})

    assert (forbidden.status_code, foreign.status_code) == (403, 400)
    until(lambda: any("evil.example.org" in event for event in events(strict)))
    assert not any("Permission denied" in event for event in events(strict))
    assert [line for line in lines(strict) if "exception" in line] == []


# Proxies that nobody named


def test_a_proxy_that_is_not_trusted_is_told_of_once(strict: Server, site: httpx.Client) -> None:
    for n in (1, 2):
        site.get("/", headers={"X-Forwarded-For": f"192.0.2.{n}"})
        with connect(strict.ws_url, additional_headers={"X-Forwarded-For": f"192.0.2.{n}"}) as socket:
            socket.recv(timeout=30)

    until(lambda: any("X-Forwarded-For" in event for event in events(strict)))
    (told,) = [event for event in events(strict) if "X-Forwarded-For" in event]
    assert told.startswith(
        "A request from 127.0.0.1 has X-Forwarded-For, and TRUSTED_PROXIES does not name that address."
    )


@pytest.mark.parametrize(
    ("client", "headers", "told"),
    [
        ("192.0.2.1", [], None),
        ("192.0.2.1", [("x-forwarded-for", "192.0.2.1")], None),
        ("192.0.2.1", [("x-forwarded-for", "203.0.113.9, 192.0.2.1:4711")], None),
        ("192.0.2.1", [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.1")], None),
        ("2001:db8::1", [("x-forwarded-for", "[2001:DB8::1]:80")], None),
        ("10.1.0.1", [("x-forwarded-for", "192.0.2.1,")], None),
        ("2001:db8::1", [("x-forwarded-for", "192.0.2.1, ")], None),
        ("10.0.0.1", [("x-forwarded-for", "192.0.2.1,")], "A request from 10.0.0.1 has X-Forwarded-For,"),
        ("10.0.0.1", [("x-forwarded-for", "192.0.2.1")], "A request from 10.0.0.1 has X-Forwarded-For,"),
        ("10.0.0.1", [("x-real-ip", "192.0.2.1")], "A request from 10.0.0.1 has X-Real-Ip and no X-Forwarded-For"),
        ("10.0.0.1", [("forwarded", "for=192.0.2.1")], "A request from 10.0.0.1 has Forwarded and no X-Forwarded-For"),
    ],
)
def test_what_is_told_of_a_forwarded_request(
    client: str, headers: list[tuple[str, str]], told: str | None, settings: Any
) -> None:
    settings.TRUSTED_PROXIES = ["10.1.0.0/16", "2001:db8::1"]
    scope = {"client": (client, 1), "headers": [(name.encode(), value.encode()) for name, value in headers]}

    warning = warning_about(scope)

    assert (warning is None) if told is None else (warning or "").startswith(told)


# Addresses that are nearly right


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/api/docs", "/api/docs/"),
        ("/api/schema", "/api/schema/"),
        ("/admin", "/admin/"),
        ("/healthz", "/healthz/ready"),
        ("/healthz/", "/healthz/ready"),
    ],
)
@pytest.mark.writes_nothing
def test_a_page_is_found_without_its_slash(path: str, leads_to: str, server: Server) -> None:
    answer = httpx.get(f"{server.url}{path}", verify=False)

    assert answer.headers["Location"] == leads_to
    assert answer.status_code in (301, 307)


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/api/v1/leaderboard/", "/api/v1/leaderboard"),
        ("POST", "/api/v1/scores/increment/", "/api/v1/scores/increment"),
        ("POST", "/api/v1/auth/token/", "/api/v1/auth/token"),
        ("GET", "/api//v1/leaderboard", "/api/v1/leaderboard"),
        ("GET", "/api/leaderboard", "/api/v1/leaderboard"),
        ("GET", "/api/users/ann", "/api/v1/users/ann"),
        ("GET", "/api/v1/nothing", None),
        ("GET", "/api/", None),
    ],
)
@pytest.mark.writes_nothing
def test_the_api_names_the_address_that_was_meant(method: str, path: str, meant: str | None, server: Server) -> None:
    answer = httpx.request(method, f"{server.url}{path}", verify=False)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"] == "There is nothing at this address." + (f" Did you mean {meant}?" if meant else "")


@pytest.mark.writes_nothing
def test_what_browsers_and_crawlers_ask_for_is_there(server: Server) -> None:
    icon = httpx.get(f"{server.url}/favicon.ico", verify=False)
    robots = httpx.get(f"{server.url}/robots.txt", verify=False)

    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/x-icon")
    assert "Disallow: /admin/" in robots.text


# Methods


@pytest.mark.parametrize("path", ["/", "/api/docs/", "/api/docs", "/api/schema/", "/admin/", "/admin/login/"])
@pytest.mark.writes_nothing
def test_a_method_that_a_page_does_not_have_is_not_allowed(path: str, server: Server) -> None:
    methods = ["PUT", "PATCH", "DELETE", "TRACE", "QUERY", "PROPFIND"] + ["POST"] * ("admin" not in path)

    answers = {method: httpx.request(method, f"{server.url}{path}", verify=False) for method in methods}

    assert {method: answer.status_code for method, answer in answers.items()} == dict.fromkeys(methods, 405)
    assert all("GET" in answer.headers["Allow"] for answer in answers.values())


# What a page may do


@pytest.mark.parametrize("path", ["/admin/login/", "/nothing", "/admin", "/robots.txt", "/static/leaderboard/page.js"])
@pytest.mark.writes_nothing
def test_whatever_is_answered_runs_nothing_that_is_not_ours(path: str, server: Server) -> None:
    policy = httpx.get(f"{server.url}{path}", verify=False).headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


@pytest.mark.writes_nothing
def test_a_form_from_elsewhere_is_refused_by_a_page_without_anything_inline(server: Server) -> None:
    answer = httpx.post(f"{server.url}{SIGN_IN}", data={}, headers={"Origin": "https://evil.example"}, verify=False)

    assert answer.status_code == 403
    assert not re.search(r"<style|<script|\sstyle=", answer.text)
