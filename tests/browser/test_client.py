"""`client.js`, by itself: its rules, and how it takes what a socket says."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

import pytest
from playwright.sync_api import Page
from websockets.sync.server import ServerConnection

from .conftest import OpenPage
from .site import STATIC, Site

pytestmark = pytest.mark.slow

IMPORT = "const client = await import('/client.js');"
FOLLOW = f"""async (url) => {{
    {IMPORT}
    window.updates = [];
    window.states = [];
    window.board = new client.LeaderboardClient(url);
    board.addEventListener("update", ({{ detail }}) => updates.push(detail.seq));
    board.addEventListener("state", ({{ detail }}) => states.push(detail.state));
}}"""


def frame(seq: int, epoch: str = "e", **more: Any) -> str:
    entries = [{"userId": "ann", "score": seq}]
    return json.dumps({"type": "leaderboard_update", "leaderboard": entries, "epoch": epoch, "seq": seq} | more)


def wait_until(page: Page, condition: str) -> None:
    page.wait_for_function(f"() => {condition}")


@pytest.fixture
def page(site: Site, open_page: OpenPage) -> Page:
    return open_page(site.url, outage=True)


def test_the_types_declare_what_the_module_exports(page: Page) -> None:
    declared = re.findall(r"^export (?:class|function) (\w+)", (STATIC / "client.d.ts").read_text(), re.MULTILINE)

    exported = page.evaluate(f"async () => {{ {IMPORT} return Object.keys(client) }}")

    assert sorted(declared) == sorted(exported)


def test_the_wait_doubles_up_to_half_a_minute_and_has_full_jitter(page: Page) -> None:
    longest = page.evaluate(
        f"async () => {{ {IMPORT} return [1, 2, 3, 5, 6, 50].map((n) => client.waitMs(n, () => 1)) }}"
    )
    shortest = page.evaluate(f"async () => {{ {IMPORT} return client.waitMs(9, () => 0) }}")

    assert longest == [1000, 2000, 4000, 16000, 30000, 30000]
    assert shortest == 0


def test_equal_scores_share_a_rank(page: Page) -> None:
    ranks = page.evaluate(
        f"async () => {{ {IMPORT} return client.ranked([9, 9, 5, 4, 4, 0].map((score) => ({{ score }}))) }}"
    )

    assert [entry["rank"] for entry in ranks] == [1, 1, 3, 4, 4, 6]


@pytest.mark.parametrize("tag", ['"a-b-01-7-10-0"', 'W/"a-b-01-7-10-0"'])
def test_an_answer_becomes_the_update_that_a_frame_would_be(page: Page, tag: str) -> None:
    body = {"leaderboard": [{"rank": 1, "userId": "ann", "score": 3}], "total": 1, "seq": 7}

    update = page.evaluate(f"async ([body, tag]) => {{ {IMPORT} return client.updateOf(body, tag) }}", [body, tag])

    assert update == json.loads(frame(7, "a-b-01")) | {"leaderboard": [{"userId": "ann", "score": 3}]}


def test_older_frames_of_an_epoch_are_dropped_and_another_epoch_is_taken(site: Site, page: Page) -> None:
    def talk(socket: ServerConnection) -> None:
        for told in (frame(5), frame(4), '{"type":"of_tomorrow"}', frame(6), frame(2, "f"), frame(3, "f")):
            socket.send(told)
        socket.recv()

    site.talk = talk
    page.evaluate(FOLLOW, site.socket_url)

    wait_until(page, "updates.at(-1) === 3")
    assert page.evaluate("updates") == [5, 6, 2, 3]
    assert page.evaluate("states") == ["live"]


def test_an_answer_about_a_board_becomes_the_update_that_a_frame_would_be(page: Page) -> None:
    period = {"startsAt": "2026-11-23T00:00:00Z", "endsAt": "2026-11-30T00:00:00Z", "isCurrent": True}
    rows = [{"rank": 1, "position": 1, "userId": "ann", "score": 3}]
    body = {"board": "a-1", "period": 4, "leaderboard": rows, "total": 1, "seq": 7} | period
    given = [body, '"a-1-b-01-c-4-7-10-0-00c0ffee"', "Fri, 27 Nov 2026 00:00:00 GMT"]

    update = page.evaluate(f"async (given) => {{ {IMPORT} return client.boardUpdateOf(...given) }}", given)

    assert update == period | {
        "type": "board_update",
        "board": "a-1",
        "period": 4,
        "at": "2026-11-27T00:00:00.000Z",
        "leaderboard": [{"rank": 1, "userId": "ann", "score": 3}],
        "epoch": "b-01-c",
        "seq": 7,
    }


def test_another_board_has_a_socket_of_its_own_and_its_periods_do_not_go_back(site: Site, page: Page) -> None:
    paths: list[str] = []

    def talk(socket: ServerConnection) -> None:
        assert socket.request
        paths.append(socket.request.path)
        if len(paths) == 1:
            for period, seq in ((1, 5), (2, 5), (1, 6), (2, 6)):
                socket.send(frame(seq, type="board_update", period=period))
            socket.send(frame(7))  # of the default board
            socket.close(4404)  # it is deleted; the next of its name begins with its first period
        else:
            socket.send(frame(8, type="board_update", period=1))
            socket.recv()

    site.talk = talk
    page.evaluate(FOLLOW.replace("Client(url)", "Client(url, {board: 'weekly'})"), site.socket_url)

    wait_until(page, "updates.at(-1) === 8")
    assert page.evaluate("updates") == [5, 5, 6, 8]
    assert paths == ["/ws/boards/weekly/"] * 2


def test_an_age_makes_it_stale_since_then(site: Site, page: Page) -> None:
    aged = threading.Event()

    def talk(socket: ServerConnection) -> None:
        socket.send(frame(5, age=60))
        aged.wait(60)
        socket.send(frame(5))
        socket.recv()

    site.talk = talk
    page.evaluate(FOLLOW, site.socket_url)

    wait_until(page, "states.at(-1) === 'stale'")
    assert 58_000 < page.evaluate("Date.now() - board.state.since") < 120_000
    aged.set()
    wait_until(page, "states.at(-1) === 'live'")
    assert page.evaluate("board.state.since") is None


def test_it_comes_back_and_never_calls_what_is_old_live(site: Site, page: Page) -> None:
    said = iter((5, 6))

    def talk(socket: ServerConnection) -> None:
        socket.send(frame(seq := next(said)))
        if seq == 6:
            socket.recv()

    site.talk = talk
    page.evaluate(FOLLOW, site.socket_url)

    wait_until(page, "updates.at(-1) === 6 && states.at(-1) === 'live'")
    assert page.evaluate("states") == ["live", "reconnecting", "live"]


def test_silence_makes_it_stale_and_then_another_connection(site: Site, page: Page) -> None:
    connections: list[float] = []

    def talk(socket: ServerConnection) -> None:
        connections.append(time.monotonic())
        socket.send(frame(5))
        socket.recv()

    site.talk = talk
    page.clock.install()
    page.evaluate(FOLLOW, site.socket_url)
    wait_until(page, "states.at(-1) === 'live'")

    page.clock.fast_forward(31_000)
    wait_until(page, "states.at(-1) === 'stale'")
    page.clock.fast_forward(30_000)
    wait_until(page, "states.at(-1) === 'reconnecting'")
    page.clock.fast_forward(1_000)

    wait_until(page, "states.at(-1) === 'live'")
    assert len(connections) == 2


def test_it_hangs_up_while_nobody_looks(site: Site, page: Page) -> None:
    hung_up = threading.Event()

    def talk(socket: ServerConnection) -> None:
        socket.send(frame(5))
        try:
            socket.recv()
        finally:
            hung_up.set()

    site.talk = talk
    page.clock.install()
    page.evaluate(FOLLOW, site.socket_url)
    wait_until(page, "states.at(-1) === 'live'")
    # A headless browser has no window that could be covered, so the page is told what it would be told then.
    look = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""

    page.evaluate(look, True)
    page.clock.fast_forward(6_000)
    assert hung_up.wait(15)
    wait_until(page, "states.at(-1) === 'paused'")
    page.evaluate(look, False)

    wait_until(page, "states.at(-1) === 'live'")
    assert page.evaluate("states") == ["live", "paused", "reconnecting", "live"]


def test_closed_is_closed(site: Site, page: Page) -> None:
    hung_up = threading.Event()

    def talk(socket: ServerConnection) -> None:
        socket.send(frame(5))
        try:
            socket.recv()
        finally:
            hung_up.set()

    site.talk = talk
    page.evaluate(FOLLOW, site.socket_url)
    wait_until(page, "states.at(-1) === 'live'")

    page.evaluate("board.close()")

    assert hung_up.wait(10)
    assert page.evaluate("states") == ["live", "closed"]
