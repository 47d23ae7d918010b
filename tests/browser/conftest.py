"""A real Chromium for the tests of what people see: Debian's, or whatever CHROMIUM names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from .site import Site

expect.set_options(timeout=40_000)  # of all `expect`s: their own five seconds are a measure of the machine
OpenPage = Callable[..., Page]

NAMES = ("chromium", "chromium-browser", "google-chrome")
# What the browser itself writes when the other side is away, which some tests are about.
TRIES = 3
OUTAGE = ("Failed to load resource", "WebSocket connection to")
# A violation that no console message tells of would be one of a listener's.
TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
    console.error("policy violated:", event.violatedDirective, event.blockedURI));
"""


def program() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


if program() is None:
    # One skipped test says so, test_browser.py's; fifty would say no more.
    collect_ignore_glob = ["test_[!b]*.py"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for as long as tests of this folder run in a row.

    Playwright's sync interface keeps an event loop running in this thread, where Django then refuses the database, and
    pytest-asyncio could not run another: so it must not outlive the folder.
    """
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    try:
        with sync_playwright() as playwright:
            # Chromium's sandbox does not start as root; what is opened here is our own.
            browser = playwright.chromium.launch(executable_path=program(), chromium_sandbox=False)
            yield browser
            browser.close()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        if before is not None:
            os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a page, each in a profile of its own: `open_page(url, color_scheme="dark")`.

    An error in the console, one that nobody caught, or a violated policy fails the test at its end. With `outage=True`
    the browser may complain that the other side is away.
    """
    complaints: list[str] = []
    contexts = []

    def open_(url: str, *, outage: bool = False, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        context.add_init_script(TELL_VIOLATIONS)
        page = context.new_page()
        page.set_default_timeout(40_000)  # a page may wait half a minute before it tries to connect again

        def hear(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not (outage and message.text.startswith(OUTAGE)):
                complaints.append(f"{message.type}: {message.text} ({message.location})")

        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        before = len(complaints)
        for _ in range(TRIES):
            answer = page.goto(url)
            if outage or answer is None or answer.status != 503:
                break
            del complaints[before:]  # a slow machine took longer than a request has
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Somebody else's site, on an origin of its own; each test says what it serves."""
    with Site() as site:
        yield site


def wait_for_state(page: Page, state: str) -> str:
    """Wait until the page says that the board is in `state`, and return the words it has for that."""
    shown = page.locator(f'live-leaderboard .state[data-state="{state}"]')
    shown.wait_for()
    return shown.inner_text()


def players(page: Page) -> list[tuple[str, str, str]]:
    """Rank, player and score of each row as they are shown, when the counting has come to an end."""
    page.wait_for_function(
        """() => [...document.querySelectorAll("tr[data-score]")].every((row) =>
            row.querySelector(".score span").textContent.replaceAll(",", "") === row.dataset.score)"""
    )
    rows = page.locator("tbody tr[data-user]").evaluate_all(
        """rows => rows.map((row) => [".rank", "bdi", ".score span"].map((part) => row.querySelector(part).textContent))"""
    )
    return [(rank, player, score) for rank, player, score in rows]


def wait_for_players(page: Page, *names: str) -> None:
    """Wait until the board has these players, in this order."""
    page.wait_for_function(
        """names => JSON.stringify([...document.querySelectorAll("tbody bdi")].map((name) => name.textContent))
            === JSON.stringify(names)""",
        arg=list(names),
    )
