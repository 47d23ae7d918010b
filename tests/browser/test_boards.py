"""Boards beside the default one: their tabs on the page, their periods, and the element that shows them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, WebSocket, expect

from scores.boards import definitions
from scores.boards.documents import parse
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Leaderboard
from tests.polling import until
from tools.servers import Server

from .conftest import OpenPage, players, wait_for_players, wait_for_state

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)
CALENDARS = count(1_000, 1_000)


def make(name: str, **fields: object) -> None:
    definitions.create(parse({"name": name, "fold": "sum"} | fields))
    # Each test begins a log, and counts changes of its boards from 1: to the server, two counts alike are no change.
    Leaderboard.objects.update(calendar=next(CALENDARS))


def seasons(*moments: timedelta) -> dict[str, object]:
    """A season from each of these moments to the next; they are relative to now."""
    texts = [(datetime.now(UTC).replace(microsecond=0) + moment).isoformat() for moment in moments]
    return {"period": "season", "seasons": [{"startsAt": begin, "endsAt": end} for begin, end in pairwise(texts)]}


def add(user_id: str, points: int) -> None:
    writer.batcher.submit_and_wait(Change(Kind.INCREMENT, user_id, points))


def report(board: str, user_id: str, score: int) -> None:
    writer.batcher.submit_and_wait(Change(Kind.SCORE, user_id, score, stream=board))


def wait_until_known(server: Server, board: str) -> None:
    """Return when the server answers for the board from a copy, and lists it."""

    def is_known() -> bool:
        answer = httpx.get(f"{server.url}/api/v1/boards/{board}")
        names = [each["name"] for each in httpx.get(f"{server.url}/api/v1/boards").json()["boards"]]
        return answer.status_code == 200 and board in names

    until(is_known)


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']} ({rule['impact']}): {node['html']}" for rule in found for node in rule["nodes"]]


def open_ones(page: Page, sockets: list[WebSocket]) -> list[str]:
    page.wait_for_timeout(20)  # playwright hears of a close only meanwhile
    return [socket.url for socket in sockets if not socket.is_closed()]


def test_tabs_show_each_board_live(server: Server, open_page: OpenPage) -> None:
    make("weekly", title="This week", period="weekly")
    make("laps", fold="best", order="lower", stream=True)
    for user_id, score in (("ann", 5), ("bob", -7), ("cyd", 5)):
        report("laps", user_id, score)
    add("ann", 10)
    wait_until_known(server, "weekly")
    wait_until_known(server, "laps")
    page = open_page(f"{server.url}/")
    wait_for_state(page, "live")
    sockets: list[WebSocket] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    expect(page.get_by_role("tab")).to_have_text(["Leaderboard", "laps", "This week"])

    page.get_by_role("tab", name="This week").click()
    wait_for_state(page, "live")
    wait_for_players(page, "ann")
    expect(page.locator(".period")).to_have_text(re.compile(r"^Resets in \d+ (d|h|min|s)$"))
    assert page.url.endswith("/?board=weekly")
    add("bob", 15)
    wait_for_players(page, "bob", "ann")
    expect(page.locator("tr[data-user=ann] .change")).to_have_text("▼ 1")

    page.keyboard.press("ArrowLeft")
    wait_for_players(page, "bob", "ann", "cyd")
    assert players(page) == [("1", "bob", "-7"), ("2", "ann", "5"), ("2", "cyd", "5")]
    expect(page.locator(".period")).to_have_count(0)
    for key in ("Home", "End", "Home", "End", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.get_by_role("tab", name="Leaderboard")).to_be_focused()
    wait_for_state(page, "live")
    wait_for_players(page, "bob", "ann")

    assert page.url.endswith("/")
    until(lambda: open_ones(page, sockets) == [server.ws_url])
    for width in (320, 1280, 3840):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_deep_link_leads_to_a_board_and_to_its_past(server: Server, open_page: OpenPage, scheme: str) -> None:
    make("season", **seasons(-3 * HOUR, -2 * HOUR, -HOUR, 3 * HOUR))
    add("ann", 10)
    wait_until_known(server, "season")
    written = open_page(f"{server.url}/?board=season", java_script_enabled=False)
    assert written.locator("tbody tr").all_inner_texts() == ["1\tann\t\t10"]
    page = open_page(f"{server.url}/?board=season", color_scheme=scheme, locale="en-GB", timezone_id="Europe/Berlin")
    wait_for_state(page, "live")
    expect(page.get_by_role("tab", name="season", selected=True)).to_be_visible()
    expect(page.locator(".period")).to_have_text("Resets in 2 h")
    assert violations(page) == []

    older = page.get_by_role("button", name="Previous period")
    older.focus()
    page.keyboard.press("Enter")
    wait_for_state(page, "past")
    expect(page.get_by_text("Nobody scored.")).to_be_visible()
    page.keyboard.press("Enter")
    expect(older).to_have_attribute("aria-disabled", "true")
    first = page.locator(".period").inner_text()
    assert " – " in first
    assert violations(page) == []
    page.get_by_role("button", name="Next period").click()
    expect(page.locator(".period")).not_to_have_text(first)
    page.get_by_role("button", name="Back to now").click()

    wait_for_state(page, "live")
    wait_for_players(page, "ann")
    add("bob", 20)
    wait_for_players(page, "bob", "ann")
    expect(page.locator(".period")).to_have_text("Resets in 2 h")


def test_a_period_ends_although_nobody_scores(server: Server, open_page: OpenPage) -> None:
    add("ann", 1)
    make("short", **seasons(-HOUR, timedelta(seconds=9), 3 * HOUR))
    add("bob", 10)
    wait_until_known(server, "short")
    page = open_page(f"{server.url}/?board=short")
    wait_for_state(page, "live")
    page.locator("tr[data-user=bob]").wait_for()
    expect(page.locator(".period")).to_have_text(re.compile(r"^Resets in \d+ s$"))

    expect(page.get_by_text("Nobody yet.")).to_be_visible()
    expect(page.locator(".period")).to_have_text("Resets in 2 h")
    expect(page.locator("live-leaderboard [role=status]")).to_have_text("A new period has begun.")
    page.get_by_role("button", name="Previous period").click()
    wait_for_state(page, "past")
    assert ("1", "bob", "10") in players(page)


def test_a_period_that_no_other_follows_is_over_at_once(server: Server, open_page: OpenPage) -> None:
    for seconds in (4, 15, 45):  # a machine may need longer than that to open a page
        make(f"cup-{seconds}", **seasons(-HOUR, timedelta(seconds=seconds)))
        add("ann", 10)
        wait_until_known(server, f"cup-{seconds}")
        page = open_page(f"{server.url}/?board=cup-{seconds}")
        expect(page.locator(".period")).to_have_text(re.compile("^(Resets|Ended)"))
        if found := re.fullmatch("Resets in ([0-9]+) s", page.locator(".period").inner_text()):
            break
    assert found
    assert 1 <= int(found[1]) <= seconds

    expect(page.locator(".period")).to_have_text("Ended", timeout=90_000)
    wait_for_state(page, "live")
    page.reload()
    wait_for_state(page, "live")

    assert page.locator(".period").inner_text() == "Ended"
    wait_for_players(page, "ann")


def test_who_has_no_score_on_a_board_is_not_shown_with_a_perfect_one(server: Server, open_page: OpenPage) -> None:
    make("laps", fold="best", order="lower", stream=True)
    report("laps", "ann", 5)
    wait_until_known(server, "laps")
    page = open_page(f"{server.url}/?board=laps")
    wait_for_state(page, "live")
    wait_for_players(page, "ann")
    element, score = page.locator("live-leaderboard"), page.locator("tfoot .score")

    element.evaluate("(element) => element.setAttribute('me', 'solo')")
    expect(score).to_have_text("–")
    element.evaluate("(element) => (element.standing = { rank: 11, score: 0 })")
    expect(score).to_have_text("0")
    element.evaluate("(element) => (element.standing = undefined)")
    expect(score).to_have_text("–")

    page.get_by_role("tab", name="Leaderboard").click()
    wait_for_state(page, "live")
    expect(score).to_have_text("0")


def test_no_other_board_no_tab(server: Server, open_page: OpenPage) -> None:
    until(lambda: len(httpx.get(f"{server.url}/api/v1/boards").json()["boards"]) == 1)
    page = open_page(f"{server.url}/?board=nope")

    wait_for_state(page, "live")

    page.wait_for_load_state("networkidle")
    assert page.locator("[role=tablist], .periods, .period").count() == 0
    loaded = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    assert not any("boards.js" in name for name in loaded)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_whoever_asks_for_a_board_that_is_not_public_is_told_so(
    server: Server, open_page: OpenPage, scheme: str
) -> None:
    make("weekly", period="weekly")
    make("priv", isPublic=False)
    add("ann", 10)
    wait_until_known(server, "weekly")
    until(lambda: httpx.get(f"{server.url}/api/v1/boards/priv").status_code == 401)
    for name in ("zzz", "priv", "<b>", "x" * 900):
        page = open_page(f"{server.url}/?board={name}", color_scheme=scheme, viewport={"width": 320, "height": 900})
        shown = name if len(name) < 64 else "x" * 63 + "…"
        expect(page.locator(".missing")).to_have_text(
            f"There is no public board {shown} to show. This is the default one."
        )
        wait_for_state(page, "live")
        wait_for_players(page, "ann")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
    expect(page.get_by_role("tab")).to_have_count(2)
    assert violations(page) == []

    page.get_by_role("tab", name="weekly").click()
    expect(page.locator(".missing")).to_have_count(0)

    for query in ("", "board=", "board=leaderboard", "board=weekly"):
        page.goto(f"{server.url}/?{query}")
        expect(page.locator(".missing")).to_have_count(0)


def test_a_wall_has_room_for_that(server: Server, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}/?view=wall&board={'x' * 64}")
    wait_for_state(page, "live")

    title, told, state = (
        page.locator(part).evaluate("(part) => part.getBoundingClientRect().toJSON()")
        for part in ("h1", ".missing", ".state")
    )

    assert title["right"] < told["left"]
    assert told["bottom"] <= state["top"]
