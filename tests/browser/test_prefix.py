"""The page below a path: what it asks for and what it sends goes there too."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.conftest import PUBLIC_URL
from tests.polling import until
from tools.servers import Server

from .conftest import OpenPage, wait_for_players, wait_for_state
from .test_boards import add, make
from .test_page import sign_up

pytestmark = pytest.mark.slow

PREFIX = "/" + PUBLIC_URL.rpartition("/")[2]


def test_below_a_path_a_player_signs_up_and_scores_live(below_a_path: Server, open_page: OpenPage) -> None:
    asked: list[str] = []
    page = open_page("about:blank")
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{below_a_path.url}{PREFIX}/")

    assert wait_for_state(page, "live") == "Live"
    sign_up(page, "grace")
    page.get_by_role("button", name="+10", exact=True).click()
    wait_for_players(page, "grace")

    outside = [url for url in asked if not url.startswith(f"{below_a_path.url}{PREFIX}/")]
    assert outside == []
    assert f"{below_a_path.url}{PREFIX}/api/v1/scores/increment" in asked


def test_below_a_path_a_page_without_sockets_asks_there(below_a_path: Server, open_page: OpenPage) -> None:
    page = open_page("about:blank", outage=True)
    page.route_web_socket(re.compile("."), lambda socket: socket.close())

    with page.expect_response(f"**{PREFIX}/api/v1/leaderboard") as answered:
        page.goto(f"{below_a_path.url}{PREFIX}/")

    assert answered.value.status == 200
    wait_for_state(page, "polling")


def test_below_a_path_another_board_is_asked_for_there(below_a_path: Server, open_page: OpenPage) -> None:
    make("weekly", title="This week", period="weekly")
    add("grace", 10)
    address = f"{below_a_path.url}{PREFIX}/api/v1/boards"
    until(lambda: httpx.get(f"{address}/weekly").is_success and "weekly" in httpx.get(address).text)
    page = open_page("about:blank", outage=True)
    page.route_web_socket(re.compile("."), lambda socket: socket.close())

    with page.expect_response(f"**{PREFIX}/api/v1/boards/weekly") as answered:
        page.goto(f"{below_a_path.url}{PREFIX}/?board=weekly")

    assert answered.value.status == 200
    wait_for_state(page, "polling")
    wait_for_players(page, "grace")
    expect(page.locator(".period")).to_contain_text("Resets in ")
    page.get_by_role("tab", name="Leaderboard").click()
    assert page.url == f"{below_a_path.url}{PREFIX}/"


def test_below_a_path_the_reference_shows_every_address(below_a_path: Server, open_page: OpenPage) -> None:
    page = open_page(f"{below_a_path.url}{PREFIX}/api/docs/")

    expect(page.locator(".opblock").first).to_be_visible()
    assert page.locator(".servers select").input_value() == PREFIX
