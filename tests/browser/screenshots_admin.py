"""Makes the pictures of docs/admin.md: `.venv/bin/python -m pytest tests/browser/screenshots_admin.py`.

Not one of the tests, by its name: it wants a Chromium on the PATH, as Debian's, and writes into docs/images. It fails if a
page logs an error, such as a breach of its policy.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from playwright.sync_api import Page, sync_playwright
from websockets.sync.client import connect

from scores import services
from scores.board import LEADERBOARD
from scores.boards import definitions
from scores.boards.copies import BoardCopies
from scores.boards.documents import parse
from scores.boards.follower import BoardFollower
from scores.engagement.fold import EngagementFold
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.projection.leaderboard import leaderboard
from tests.conftest import database_url
from tests.polling import until
from tests.scores.admin.test_admin import USERS, logged_in
from tests.scores.admin.test_moderation import member_of
from tools.servers import ROOT, Server

IMAGES = ROOT / "docs" / "images"
PLAYERS = [
    "ada",
    "alan",
    "barbara",
    "donald",
    "edsger",
    "frances",
    "grace",
    "hedy",
    "ida",
    "jean",
    "katherine",
    "radia",
]
WEEKS = 3


@pytest.fixture
def moderator(board: None) -> User:
    """Somebody to act, and a few weeks of a game: some play more than others, and one with a bot."""
    draw = random.Random(1)  # the same pictures each time

    async def play() -> None:
        for _ in range(40):
            round_of = draw.sample([*PLAYERS, "radia", "ada", "hedy"], 6)
            await asyncio.gather(*(services.increment(user_id=who, points=draw.randint(5, 400)) for who in round_of))

    async def cheat() -> None:
        for _ in range(12):
            await services.increment(user_id="xX_speedrun_Xx", points=9_999)

    moderator = member_of("Admins", "mia")
    asyncio.run(play())
    asyncio.run(cheat())
    services.block(user_id="xX_speedrun_Xx", actor="mia", reason="Ten perfect rounds in one second")
    services.correct(user_id="hedy", total=3_000, actor="mia", reason="Round 17 was counted twice")
    asyncio.run(play())
    play_on_boards()
    with connection.cursor() as cursor:  # as if it had taken that long
        cursor.execute(
            "UPDATE score_events SET created_at = now() - make_interval(weeks => %s) * (1 - seq / (SELECT max(seq) FROM score_events)::float)",
            [WEEKS],
        )
        cursor.execute(
            "UPDATE user_scores u SET updated_at = (SELECT max(created_at) FROM score_events e WHERE e.user_id = u.user_id)"
        )
    return moderator


def play_on_boards() -> None:
    """Three boards, of which one has laps by some who have no points."""
    for fields in (
        {"name": "laps", "title": "Fastest lap", "fold": "best", "order": "lower", "stream": True, "least": 1},
        {"name": "weekly", "title": "This week", "fold": "sum", "period": "weekly", "zone": "Europe/Berlin", "keep": 8},
        {"name": "wins", "title": "Wins for ever", "fold": "sum", "action": "win", "isPublic": False},
    ):
        definitions.create(parse(fields))
    draw = random.Random(2)
    laps = [(who, draw.randint(61_000, 75_000)) for who in [*PLAYERS, "lando", "lewis"]]
    writer.record([Change(Kind.SCORE, who, lap, stream="laps") for who, lap in laps])
    follower = BoardFollower(log, BoardCopies(LEADERBOARD))
    while any([follower.build(), follower.project(), follower.tend(), follower.fold()]):
        pass


@pytest.fixture
def two_workers(moderator: User, tmp_path: Path) -> Iterator[Server]:
    leaderboard.rebuild(why="it was missing")
    server = Server(log=tmp_path / "log", env={"DATABASE_URL": database_url(), "WORKERS": "2"}).start()
    yield server
    server.stop()


def test_the_pictures_of_the_admin(moderator: User, two_workers: Server) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "apt install chromium"
    session = logged_in(moderator).cookies["sessionid"].value  # before Playwright, which has an event loop of its own
    said: list[str] = []
    with ExitStack() as ends:
        for _ in range(7):
            ends.enter_context(connect(two_workers.ws_url))
        browser = ends.enter_context(sync_playwright()).chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        ends.callback(browser.close)
        context = browser.new_context(viewport={"width": 1360, "height": 760}, color_scheme="light")
        context.add_cookies([{"name": "sessionid", "value": session, "url": two_workers.url}])
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        photograph(page, two_workers.url)

    assert said == []


def photograph(page: Page, url: str) -> None:
    def save(name: str) -> None:
        page.wait_for_load_state("networkidle")
        page.screenshot(path=IMAGES / f"{name}.png")

    page.goto(f"{url}{USERS}")
    save("admin-users")
    for name in ("radia", "ada"):
        page.check(f'input[name="_selected_action"][value="{name}"]')
    page.select_option('select[name="action"]', "block_selected")
    page.click('button[name="index"]')
    page.fill('textarea[name="reason"]', "Two people shared these accounts")
    save("admin-block")

    page.goto(f"{url}{USERS}hedy/change/")
    save("admin-user")

    page.goto(f"{url}/admin/scores/board/")
    save("admin-boards")
    page.click("text=laps")
    save("admin-board")

    page.goto(f"{url}/admin/status/")
    page.click("text=Rebuild the copy")
    until(lambda: page.goto(f"{url}/admin/status/") and "Rebuilt 12 members" in page.content())
    save("admin-status")

    page.goto(f"{url}/api/docs/")
    page.wait_for_selector(".opblock-summary")
    save("api-docs")


# More play than a test should wait for: each week some begin, and each plays less and less; by day more than by night.
PLAY_SQL = """
    INSERT INTO score_events (seq, user_id, kind, points, total, action, created_at)
    SELECT row_number() OVER (ORDER BY at, who), 'player ' || who, 'increment', 1 + (random() * 200)::int, 0,
        (ARRAY[NULL, NULL, 'quest_complete', 'win', 'win', 'daily_login'])[1 + (random() * 5)::int], at
    FROM (
        SELECT who, now() - day * interval '1 day' - interval '1 day' * power(random(), 1.5) AS at
        FROM generate_series(1, 400) who, generate_series(0, 75) day, generate_series(1, 3) round
        WHERE day <= who * 75 / 400 AND random() < 0.7 / (1 + (who * 75 / 400 - day) / 6.0)
    ) AS play
"""
SOCKETS_SQL = """
    INSERT INTO engagement_sockets (hour, peak, samples)
    SELECT date_trunc('hour', now()) - n * interval '1 hour', 40 + (30 * sin(n * pi() / 12))::int + (random() * 10)::int, 60
    FROM generate_series(0, 160) n
"""


@pytest.fixture
def weeks_of_play(board: None) -> User:
    log.head()
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.5)")  # the same picture each time
        cursor.execute(PLAY_SQL)
        cursor.execute("UPDATE leaderboards SET seq = (SELECT max(seq) FROM score_events)")
        cursor.execute(SOCKETS_SQL)
    fold = EngagementFold(log)
    while fold.behind():
        fold.fold()
    return member_of("Viewers", "vera")


def test_the_picture_of_engagement(weeks_of_play: User, server: Server) -> None:
    session = logged_in(weeks_of_play).cookies["sessionid"].value
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1360, "height": 760}, color_scheme="light")
        context.add_cookies([{"name": "sessionid", "value": session, "url": server.url}])
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.goto(f"{server.url}/admin/engagement/")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=IMAGES / "admin-engagement.png", full_page=True)
        browser.close()

    assert said == []
