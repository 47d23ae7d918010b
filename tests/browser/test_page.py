"""The page at `/`, as people see it and use it."""

from __future__ import annotations

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from scores import services
from tests.conftest import TokenFor
from tools.servers import Server

from .conftest import OpenPage, players, wait_for_players, wait_for_state

pytestmark = pytest.mark.slow

PASSWORD = "a nanosecond of wire"


def put(**totals: int) -> None:
    for user_id, total in totals.items():
        services.correct(user_id=user_id, total=total, actor="test", reason="test")


def fill_in(page: Page, username: str, password: str = PASSWORD) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(username)
    dialog.get_by_label("Password").fill(password)
    dialog.locator("button.primary").click()


def sign_up(page: Page, username: str) -> None:
    page.get_by_role("button", name="Sign up").click()
    fill_in(page, username)
    expect(page.get_by_role("dialog")).to_be_hidden()


def watch_for_glides(page: Page) -> None:
    """Note the user id of each row that is on its way, at every frame that the browser draws."""
    page.evaluate(
        """() => {
            window.glided = new Set();
            const look = () => {
                for (const { effect: { target } } of document.getAnimations()) glided.add(target.dataset.user);
                requestAnimationFrame(look);
            };
            look();
        }"""
    )


def watch_for_marks(page: Page) -> None:
    """Note what is said of each row's change, which stands there for four seconds only."""
    page.evaluate(
        """() => {
            window.marked = new Set();
            const look = () => document.querySelectorAll("tr[data-user] .change").forEach((cell) =>
                marked.add(`${cell.closest("tr").dataset.user} ${cell.textContent}`));
            new MutationObserver(look).observe(document.querySelector("live-leaderboard tbody"),
                { childList: true, subtree: true });
        }"""
    )


# Live


def test_a_score_in_one_browser_moves_the_row_in_another(server: Server, open_page: OpenPage) -> None:
    put(ann=100, bob=50)
    mine, other = open_page(f"{server.url}/"), open_page(f"{server.url}/")
    wait_for_state(other, "live")
    watch_for_glides(other)
    watch_for_marks(other)
    sign_up(mine, "cyd")

    mine.get_by_role("button", name="+100").click()

    other.wait_for_function("() => marked.has('bob ▼ 1') && marked.has('cyd new')")
    assert players(other) == [("1", "cyd", "100"), ("1", "ann", "100"), ("3", "bob", "50")]
    assert other.evaluate("['ann', 'bob'].every((user) => glided.has(user))")
    expect(other.locator("tr[data-user=bob] .change")).to_be_empty()


def test_a_score_counts_up(server: Server, open_page: OpenPage) -> None:
    put(ann=1000)
    page = open_page(f"{server.url}/")
    wait_for_state(page, "live")
    page.evaluate(
        """() => {
            window.seen = new Set();
            const score = document.querySelector("tr[data-user=ann] .score span");
            new MutationObserver(() => seen.add(score.textContent)).observe(score, { childList: true });
        }"""
    )

    put(ann=2000)

    page.wait_for_function("() => seen.has('2,000')")
    assert page.evaluate("seen.size") > 2


def test_motion_is_reduced_for_those_who_ask(server: Server, open_page: OpenPage) -> None:
    put(ann=100, bob=50)
    page = open_page(f"{server.url}/", reduced_motion="reduce")
    wait_for_state(page, "live")
    page.evaluate(
        """() => {
            window.animated = 0;
            const animate = Element.prototype.animate;
            Element.prototype.animate = function (...args) { animated++; return animate.apply(this, args); };
        }"""
    )

    put(bob=200)

    wait_for_players(page, "bob", "ann")
    assert page.locator("tr[data-user=bob] .score").inner_text() == "200"
    assert page.evaluate("animated") == 0


def test_going_live_moves_nothing_and_keeps_what_the_server_wrote(server: Server, open_page: OpenPage) -> None:
    put(**{"ann": 1234567, "bob": 1234567, "cyd": 5, "<b>": 20_000_000_000})
    tidy = """() => [...document.querySelectorAll("live-leaderboard table > :not(tfoot)")]
        .map((part) => part.outerHTML.replace(/\\s+</g, "<")).join("")"""
    written = open_page(f"{server.url}/", java_script_enabled=False)
    page = open_page(f"{server.url}/")

    wait_for_state(page, "live")

    assert page.evaluate(tidy) == written.evaluate(tidy)
    assert written.locator(".state").inner_text() == "As of event 4"
    put(dan=50, eve=70)
    wait_for_players(page, "<b>", "bob", "ann", "eve", "dan", "cyd")
    assert shifts(page) == []


def shifts(page: Page) -> list[object]:
    """What has jumped on the page since it was opened, as Chromium counts it; but rows may change places."""
    found: list[object] = page.evaluate(
        """() => new Promise((resolve) => {
            const found = [];
            new PerformanceObserver((list) => {
                const nodes = list.getEntries().flatMap((shift) => shift.sources.map((source) => source.node));
                found.push(...nodes.filter((node) => !node?.parentElement?.closest("tbody")).map((node) =>
                    node?.outerHTML ?? node?.textContent));
            }).observe({ type: "layout-shift", buffered: true });
            setTimeout(() => resolve(found), 300);
        })"""
    )
    return found


def test_without_scripts_it_is_a_table(server: Server, open_page: OpenPage) -> None:
    put(ann=30, bob=20)

    page = open_page(f"{server.url}/", java_script_enabled=False)

    assert page.get_by_role("table", name="Top 10").locator("tbody tr").all_inner_texts() == [
        "1\tann\t\t30",
        "2\tbob\t\t20",
    ]
    assert not page.get_by_role("button").count()


def test_an_empty_board_says_so(server: Server, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}/")

    wait_for_state(page, "live")
    expect(page.get_by_text("No scores yet.")).to_be_visible()
    put(ann=1)

    wait_for_players(page, "ann")
    expect(page.get_by_text("No scores yet.")).to_be_hidden()


# Safe


@pytest.mark.parametrize(
    "user_id",
    [
        "<img src=x onerror=alert(1)>",
        "\u202eadmin\u2066",
        "w" * 255,
        "a\u0300\u0301" + "\u0302" * 200,
        "{{ 7 }}&amp;'\"",
    ],
    ids=["markup", "bidi", "long", "tall", "quotes"],
)
@pytest.mark.parametrize("width", [1280, 360])
def test_a_user_id_is_shown_safely(server: Server, open_page: OpenPage, user_id: str, width: int) -> None:
    put(ann=30, bob=20)
    services.correct(user_id=user_id, total=25, actor="test", reason="test")

    page = open_page(f"{server.url}/", viewport={"width": width, "height": 800})
    wait_for_state(page, "live")
    put(bob=28)

    wait_for_players(page, "ann", "bob", user_id)
    name = page.locator("tbody tr").nth(2).locator("bdi")
    assert name.get_attribute("title") == user_id
    assert name.evaluate("name => [name.childElementCount, getComputedStyle(name).unicodeBidi]") == [0, "isolate"]
    heights = page.locator("tbody tr").evaluate_all("rows => rows.map((row) => row.offsetHeight)")
    assert len(set(heights)) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_largest_score_is_shown_whole(server: Server, open_page: OpenPage) -> None:
    put(ann=2**53 - 1)

    for width in (1280, 360):
        page = open_page(f"{server.url}/", viewport={"width": width, "height": 800})
        wait_for_state(page, "live")
        cell = page.locator("tr[data-user=ann] .score")
        assert cell.inner_text() == "9,007,199,254,740,991"
        assert cell.evaluate("cell => cell.scrollWidth <= cell.clientWidth")


# Players


def test_from_sign_up_to_the_first_score(server: Server, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}/")

    page.get_by_role("button", name="+10", exact=True).click()
    fill_in(page, "ann")

    mine = page.locator("tbody tr.me")
    expect(mine.locator("bdi")).to_have_text("ann")
    expect(mine.locator(".score span")).to_have_text("10")
    expect(page.get_by_text("+10: your score is 10")).to_be_visible()


def test_a_mistake_is_explained_and_can_be_mended(server: Server, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}/", outage=True)  # the browser calls a 400 a failed resource

    page.get_by_role("button", name="Sign up").click()
    fill_in(page, "ann", "password")
    expect(page.get_by_role("alert")).to_have_text("This password is too common.")
    fill_in(page, "ann")

    expect(page.locator(".account bdi")).to_have_text("ann")


def test_a_player_stays_signed_in_over_a_reload_and_out_after_signing_out(server: Server, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}/", outage=True)  # a player without a score is a 404
    sign_up(page, "ann")

    page.reload()
    expect(page.locator(".account bdi")).to_have_text("ann")
    with page.expect_response("**/auth/logout") as answer:
        page.get_by_role("button", name="Sign out").click()
    assert answer.value.status == 204
    page.reload()

    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.get_by_role("button", name="Sign in").click()
    fill_in(page, "ann")
    expect(page.locator(".account bdi")).to_have_text("ann")


def test_expired_tokens_are_renewed_once_for_all_who_wait(
    server: Server, open_page: OpenPage, token_for: TokenFor
) -> None:
    registered = httpx.post(f"{server.url}/api/v1/auth/register", json={"username": "ann", "password": PASSWORD}).json()
    put(ann=1)
    page = open_page(f"{server.url}/")
    page.evaluate(
        "tokens => sessionStorage.setItem('leaderboard.session', JSON.stringify(tokens))",
        {"access": token_for("ann", exp=1), "refresh": registered["refresh"]},
    )
    renewed: list[str] = []
    page.on("request", lambda request: renewed.append(request.url) if request.url.endswith("/refresh") else None)
    page.reload()
    wait_for_state(page, "live")

    for _ in range(3):
        page.get_by_role("button", name="+100").click()

    expect(page.locator("tr.me .score span").first).to_have_text("301")
    assert len(renewed) == 1
    assert page.evaluate("JSON.parse(sessionStorage.getItem('leaderboard.session')).refresh") != registered["refresh"]


def test_my_row_is_pinned_while_it_is_outside_the_top(server: Server, open_page: OpenPage) -> None:
    put(**{f"player{n:02}": 100 * n for n in range(1, 13)})
    page = open_page(f"{server.url}/")
    sign_up(page, "zed")

    page.get_by_role("button", name="+10", exact=True).click()

    pinned = page.locator("tfoot tr.me")
    expect(pinned.locator(".rank")).to_have_text("13")
    expect(pinned.locator(".score span")).to_have_text("10")
    below = page.get_by_role("button", name="+100").bounding_box()
    for _ in range(4):
        page.get_by_role("button", name="+100").click()
    expect(page.locator("tbody tr.me bdi")).to_have_text("zed")
    expect(pinned).to_be_hidden()
    assert page.get_by_role("button", name="+100").bounding_box() == below


def test_simulated_players_come_and_score(server: Server, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}/")
    switch = page.get_by_role("switch", name="Add simulated players")

    switch.check()
    expect(page.locator("tbody tr[data-user]").nth(1)).to_be_visible()
    switch.uncheck()

    expect(page.get_by_text("They score for one minute.")).to_be_visible()
    assert {name for _, name, _ in players(page)} <= {"Amara", "Ines", "Kofi", "Leila", "Linnea", "Mateo"}


# For everybody, everywhere


def test_the_wall_has_the_ten_in_large_type_and_nothing_else(server: Server, open_page: OpenPage) -> None:
    put(**{f"player{n:02}": 100 * n for n in range(1, 13)})

    page = open_page(f"{server.url}/?view=wall", viewport={"width": 1920, "height": 1080})
    wait_for_state(page, "live")

    assert len(players(page)) == 10
    assert page.locator("button, dialog, footer, tfoot:visible").count() == 0
    assert page.evaluate("[document.documentElement.scrollHeight, document.documentElement.scrollWidth]") == [
        1080,
        1920,
    ]
    box = page.locator("tbody tr").last.bounding_box()
    assert box
    assert box["y"] + box["height"] > 1000
    assert page.locator("tbody bdi").first.evaluate("name => parseFloat(getComputedStyle(name).fontSize)") > 40


def test_the_keyboard_is_enough(server: Server, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}/")
    page.get_by_role("button", name="Sign in").focus()

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.type("ann")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")

    expect(page.locator(".account bdi")).to_have_text("ann")
    page.get_by_role("button", name="+1", exact=True).press("Space")
    wait_for_players(page, "ann")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["", "?view=wall"])
def test_a_checker_of_accessibility_finds_nothing(server: Server, open_page: OpenPage, scheme: str, view: str) -> None:
    put(**{f"player{n:02}": 100 * n for n in range(1, 13)})
    page = open_page(f"{server.url}/{view}", color_scheme=scheme, outage=True)
    wait_for_state(page, "live")
    if not view:
        sign_up(page, "zed")
        page.get_by_role("button", name="+10", exact=True).click()
        expect(page.locator("tfoot .rank")).to_have_text("13")
    assert violations(page) == []

    page.context.set_offline(True)
    wait_for_state(page, "reconnecting")
    assert violations(page) == []


def test_the_dialog_has_nothing_for_a_checker_of_accessibility(server: Server, open_page: OpenPage) -> None:
    page = open_page(f"{server.url}/")

    page.get_by_role("button", name="Sign up").click()

    assert violations(page) == []


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']} ({rule['impact']}): {node['html']}" for rule in found for node in rule["nodes"]]


def test_a_screen_reader_hears_little(server: Server, open_page: OpenPage) -> None:
    put(ann=1, bob=1)
    page = open_page(f"{server.url}/")
    wait_for_state(page, "live")
    page.evaluate(
        """() => {
            window.heard = [];
            const news = document.querySelector("live-leaderboard [role=status]");
            new MutationObserver(() => heard.push(news.textContent)).observe(news, { childList: true });
        }"""
    )

    for n in range(10):
        put(**{"ann" if n % 2 else "bob": 10 * (n + 2)})
        page.wait_for_timeout(100)

    assert len(page.evaluate("heard")) <= 1
    assert page.locator("table [aria-live], table[aria-live]").count() == 0
