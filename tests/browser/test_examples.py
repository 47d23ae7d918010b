"""The element and the examples of docs/clients.md on somebody else's site."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from websockets.sync.server import ServerConnection

from scores import services
from tests.conftest import wait_until_noticed
from tests.scores.conftest import be_ahead
from tests.test_clients import examples
from tools.servers import Server

from .conftest import OpenPage, players, wait_for_players, wait_for_state
from .site import Site
from .test_boards import add, make, wait_until_known

pytestmark = pytest.mark.slow

ELSEWHERE = "http://127.0.0.1"  # the same site by another name is another origin


@pytest.fixture(scope="module")
def _service(_server: Server, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "DATABASE_URL": _server.env["DATABASE_URL"],
        "SOCKET_ORIGINS": site.url,
        "CORS_ORIGINS": f"{site.url},{site.url.replace('http://localhost', ELSEWHERE)}",
    }
    service = Server(log=tmp_path_factory.mktemp("service") / "log", env=env).start()
    yield service
    service.stop()


@pytest.fixture
def service(_service: Server, server: Server) -> Server:
    """A server that knows the site, and of its other name only that it may ask.

    The one that all tests share runs beside it. While that one stood still, this one did not notice an emptied board, in
    one run of several; a rebuild's lock in the hands of a stopped process would explain it, but was not seen.
    """
    wait_until_noticed(_service)
    return _service


def put(user_id: str, total: int) -> None:
    services.correct(user_id=user_id, total=total, actor="test", reason="test")


def at(service: Server, example: str) -> str:
    """The example, with the name of a service that runs."""
    assert "scores.example.org" in example
    example = example.replace("wss://scores.example.org/ws/leaderboard/", service.ws_url)
    return example.replace("https://scores.example.org", service.url)


def page_with(script: str) -> str:
    return f"<!doctype html><link rel=icon href='data:,'><pre id=board></pre><p id=state></p><script type=module>{script}</script>"


def test_the_element_stands_in_another_site(service: Server, site: Site, open_page: OpenPage) -> None:
    example, _ = examples("html")
    put("ada", 5)
    site.page = at(service, example)

    page = open_page(f"{site.url}/")

    assert wait_for_state(page, "live") == "Live"
    wait_for_players(page, "ada")
    assert players(page) == [("1", "ada", "5")]
    expect(page.locator("tbody tr.me")).to_have_count(1)
    put("bob", 7)
    page.locator("tr[data-user=bob]").wait_for()
    assert players(page) == [("1", "bob", "7"), ("2", "ada", "5")]


def test_a_strict_policy_of_the_site_needs_no_more_than_the_page_says(
    service: Server, site: Site, open_page: OpenPage
) -> None:
    example, _ = examples("html")
    put("ada", 5)
    site.page = at(service, example)
    socket = service.url.replace("http", "ws")
    site.policy = (
        f"default-src 'none'; script-src {service.url}; style-src {service.url}; connect-src {service.url} {socket}"
    )

    try:
        page = open_page(f"{site.url}/")
        assert wait_for_state(page, "live") == "Live"
        put("bob", 7)
        page.locator("tr[data-user=bob]").wait_for()
    finally:
        site.policy = ""


def test_where_sockets_are_refused_the_element_asks(service: Server, site: Site, open_page: OpenPage) -> None:
    example, _ = examples("html")
    put("ada", 5)
    site.page = at(service, example)

    page = open_page(f"{site.url.replace('http://localhost', ELSEWHERE)}/", outage=True)

    assert wait_for_state(page, "polling") == "Every 5 seconds"
    wait_for_players(page, "ada")
    assert players(page) == [("1", "ada", "5")]
    with page.expect_response(lambda answer: answer.status == 304):
        pass
    put("bob", 7)
    page.locator("tr[data-user=bob]").wait_for()
    assert wait_for_state(page, "polling")


def test_the_client_example_shows_board_and_state(service: Server, site: Site, open_page: OpenPage) -> None:
    example, *_ = examples("js")
    put("ada", 5)
    put("bob", 5)
    site.page = page_with(at(service, example))

    page = open_page(f"{site.url}/")

    expect(page.locator("#board")).to_have_text("1. bob: 5\n1. ada: 5")
    expect(page.locator("#state")).to_have_text("live")


def test_the_examples_of_another_board_show_it(service: Server, site: Site, open_page: OpenPage) -> None:
    be_ahead()
    make("weekly", period="weekly")
    add("ada", 5)
    wait_until_known(service, "weekly")
    _, site.page = (at(service, example) for example in examples("html"))
    page = open_page(f"{site.url}/")
    wait_for_state(page, "live")
    wait_for_players(page, "ada")
    assert players(page) == [("1", "ada", "5")]
    expect(page.locator(".period")).to_contain_text("Resets in ")

    _, example, _ = examples("js")
    site.page = page_with(at(service, example))
    page = open_page(f"{site.url}/")
    expect(page.locator("#board")).to_have_text("1. ada: 5")
    add("bob", 7)

    expect(page.locator("#board")).to_have_text("1. bob: 7\n2. ada: 5")
    expect(page.locator("#state")).to_have_text(re.compile(r"^resets in \d+ h$"))


def test_the_plain_example_shows_the_board(service: Server, site: Site, open_page: OpenPage) -> None:
    *_, example = examples("js")
    put("ada", 5)
    site.page = page_with(at(service, example))

    page = open_page(f"{site.url}/")

    expect(page.locator("body")).to_have_text("live ada: 5")
    put("ada", 6)
    expect(page.locator("body")).to_have_text("live ada: 6")


def test_the_plain_example_comes_back_and_drops_what_is_older(site: Site, open_page: OpenPage) -> None:
    *_, example = examples("js")
    said = iter((3, 2, 4))

    def talk(socket: ServerConnection) -> None:
        seq = next(said)
        board = [{"userId": "ada", "score": seq}]
        socket.send(json.dumps({"type": "leaderboard_update", "leaderboard": board, "epoch": "e", "seq": seq}))
        if seq == 4:
            socket.recv()

    site.talk = talk
    site.page = page_with(example.replace("wss://scores.example.org/ws/leaderboard/", site.socket_url))
    page = open_page(f"{site.url}/")

    expect(page.locator("body")).to_have_text("live ada: 4")
