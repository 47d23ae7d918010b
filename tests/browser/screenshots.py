"""The pictures of the documents: `.venv/bin/python -m tests.browser.screenshots` makes them anew, from a run of its own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.polling import until
from tools.manage import apply_boards
from tools.servers import ROOT, Server

from .conftest import players, program, wait_for_state

IMAGES = ROOT / "docs" / "images"
PASSWORD = "nobody is at the keyboard"
SCORES = {
    "Amara": 4_210,
    "Tomasz": 3_985,
    "Linnea": 3_655,
    "Kofi": 3_120,
    "Zoë": 2_840,
    "Mateo": 2_840,
    "Yuki": 2_190,
    "Leila": 1_975,
    "Oskar": 1_420,
    "Ines": 1_265,
    "Ravi": 1_240,
    "Mina": 990,
    "Grace": 640,
}
BOARDS = """
[boards.daily]
title = "Today"
fold = "sum"
period = "daily"

[boards.laps]
title = "Best lap"
fold = "best"
order = "lower"
stream = true

[boards.weekly]
title = "This week"
fold = "sum"
period = "weekly"
"""
LATER = {"Linnea": 900, "Zoë": 280, "Ravi": 260}  # scored while the pages are open, so that rows have moved


class Players:
    """They score over HTTP, as everybody does."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url)
        self.tokens = {name: self._register(name) for name in SCORES}

    def _register(self, name: str) -> str:
        answer = self.client.post("/api/v1/auth/register", json={"username": name, "password": PASSWORD})
        token: str = answer.raise_for_status().json()["access"]
        return token

    def score(self, points: dict[str, int]) -> None:
        for name, more in points.items():
            headers = {"Authorization": f"Bearer {self.tokens[name]}"}
            answer = self.client.post("/api/v1/scores/increment", json={"points": more}, headers=headers)
            answer.raise_for_status()


@contextmanager
def local_run() -> Iterator[Server]:
    """`make run` on data that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        # Local stores and a play area, whatever the shell that this is started from has.
        given = ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE", "PLAY_AREA", "REGISTRATION")
        for name in given:
            os.environ.pop(name, None)
        command = (sys.executable, "-m", "leaderboard_site.local.run")
        server = Server(log=Path(folder) / "log", env={"DATA_DIR": f"{folder}/data"}, command=command)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def open_at(browser: Browser, url: str, width: int, height: int, **options: Any) -> Page:
    page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
    page.goto(url)
    wait_for_state(page, "live")
    return page


def sign_in(page: Page, name: str) -> None:
    page.get_by_role("button", name="Sign in").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.locator("button.primary").click()
    page.locator("tfoot .me").wait_for()


def take(page: Page, name: str) -> None:
    page.evaluate("() => Promise.all(document.getAnimations().map((animation) => animation.finished))")
    players(page)
    page.screenshot(path=IMAGES / f"{name}.png")


def add_boards(server: Server) -> None:
    """Boards beside the default one, made as an operator does it."""
    apply_boards(server.env, server.log.parent, BOARDS)
    # The server builds them from the log, and keeps its list of boards for a second.
    until(lambda: httpx.get(f"{server.url}/api/v1/boards/weekly").status_code == 200)
    until(lambda: len(httpx.get(f"{server.url}/api/v1/boards").json()["boards"]) == 4)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    executable = program()
    if executable is None:
        sys.exit("There is no Chromium: install one, or set CHROMIUM to its path.")
    with local_run() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, chromium_sandbox=False)
        everybody = Players(server.url)
        everybody.score(SCORES)
        desktop = open_at(browser, f"{server.url}/", 1100, 850, color_scheme="light")
        dark = open_at(browser, f"{server.url}/", 1100, 850, color_scheme="dark")
        phone = open_at(browser, f"{server.url}/", 390, 800, color_scheme="light", has_touch=True, is_mobile=True)
        wall = open_at(browser, f"{server.url}/?view=wall", 1280, 720, color_scheme="dark")
        for page in (desktop, dark):
            sign_in(page, "Grace")
        everybody.score(LATER)
        for page, name in ((desktop, "desktop"), (dark, "dark"), (phone, "phone"), (wall, "wall")):
            take(page, name)
        for page in (desktop, dark, phone, wall):
            page.close()  # before there are tabs, and the boards of others
        add_boards(server)
        boards = open_at(browser, f"{server.url}/?board=weekly", 760, 820, color_scheme="light")
        boards.locator("tr[data-user=Amara]").wait_for()
        boards.get_by_role("tab", name="This week").wait_for()
        take(boards, "boards")
        browser.close()


if __name__ == "__main__":
    main()
