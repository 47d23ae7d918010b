"""What the page says while a part of the service is away: the truth, and the old board as an old board."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from leaderboard_site.local import DataDirectory
from tests.conftest import TokenFor
from tests.polling import until
from tools.manage import apply_boards, make_tables
from tools.servers import Server
from tools.stores import PostgreSQL, Redis

from .conftest import OpenPage, players, wait_for_state

pytestmark = pytest.mark.slow

REFUSED = "performance.getEntriesByType('resource').some(e => e.name.endsWith('/boards') && e.responseStatus === 503)"


@dataclass
class Service:
    """A server with stores of its own, which may be hurt."""

    server: Server
    postgresql: PostgreSQL
    redis: Redis

    def score(self, token: str, points: int) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.server.url}/api/v1/scores/increment"
        answer = httpx.post(url, json={"points": points}, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    postgresql, redis = PostgreSQL(DataDirectory(folder / "data")), Redis(folder / "redis")
    env = {"DATABASE_URL": postgresql.url, "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
    server = Server(log=folder / "server.log", env=env)
    try:
        postgresql.boot()
        redis.boot()
        make_tables(env)
        server.start()
        yield Service(server, postgresql, redis)
        server.stop()
    finally:
        redis.kill()
        redis.client.close()
        postgresql.stop()


def standing(page: Page, *names: str) -> list[tuple[str, str]]:
    """These players, with their scores, in the order of the page; others are there from other tests."""
    return [(name, score) for _, name, score in players(page) if name in names]


def test_the_page_comes_back_by_itself_after_a_restart_of_the_server(
    service: Service, open_page: OpenPage, token_for: TokenFor
) -> None:
    service.score(token_for("ann"), 10)
    page = open_page(f"{service.server.url}/", outage=True)
    wait_for_state(page, "live")

    service.server.stop()
    assert wait_for_state(page, "reconnecting").startswith("Reconnecting · as of ")
    service.server.start()
    service.score(token_for("bob"), 10_000)

    assert wait_for_state(page, "live") == "Live"
    page.locator("tr[data-user=bob]").wait_for()  # it may have been live before bob scored
    assert standing(page, "ann", "bob") == [("bob", "10,000"), ("ann", "10")]


def test_a_killed_server_is_noticed_too(service: Service, open_page: OpenPage) -> None:
    page = open_page(f"{service.server.url}/", outage=True)
    wait_for_state(page, "live")

    service.server.stop(signal.SIGKILL)
    wait_for_state(page, "reconnecting")
    service.server.start()

    wait_for_state(page, "live")


def test_without_redis_the_page_is_live_because_the_database_is_asked(
    service: Service, open_page: OpenPage, token_for: TokenFor
) -> None:
    service.score(token_for("cyd"), 20_000)
    page = open_page(f"{service.server.url}/")
    wait_for_state(page, "live")

    service.redis.kill()
    try:
        service.score(token_for("dan"), 30_000)
        page.locator("tr[data-user=dan]").wait_for()

        answer = httpx.get(f"{service.server.url}/api/v1/leaderboard", timeout=30)
        assert answer.headers["X-Leaderboard-Source"] == "database"
        assert page.locator(".state").inner_text() == "Live"
        assert standing(page, "cyd", "dan") == [("dan", "30,000"), ("cyd", "20,000")]
        service.score(token_for("cyd"), 20_000)
        page.locator("tr[data-user=cyd][data-score='40000']").wait_for()
    finally:
        service.redis.boot()


def test_without_the_database_the_board_is_stale_and_says_since_when(
    service: Service, open_page: OpenPage, token_for: TokenFor
) -> None:
    service.score(token_for("eve"), 100_000)
    page = open_page(f"{service.server.url}/", outage=True)  # it may be asking which boards there are
    wait_for_state(page, "live")
    page.locator("tr[data-user=eve]").wait_for()

    service.postgresql.freeze()
    try:
        said = wait_for_state(page, "stale")
        late = open_page(f"{service.server.url}/", outage=True)
        late_said = wait_for_state(late, "stale")
    finally:
        service.postgresql.thaw()

    assert re.fullmatch(r"Stale since \d\d:\d\d:\d\d", said)
    assert late_said.startswith("Stale since ")
    assert page.locator("tr[data-user=eve]").count() == 1
    assert wait_for_state(page, "live") == wait_for_state(late, "live") == "Live"
    service.score(token_for("fay"), 200_000)
    page.locator("tr[data-user=fay]").wait_for()


def test_a_page_that_opens_without_the_database_has_its_tabs_afterwards(
    service: Service, open_page: OpenPage, tmp_path: Path
) -> None:
    weekly = '[boards.weekly]\ntitle = "This week"\nfold = "sum"\nperiod = "weekly"\n'
    apply_boards(service.server.env, tmp_path, weekly)
    listed = f"{service.server.url}/api/v1/boards"
    until(lambda: "weekly" in httpx.get(listed).text)

    service.postgresql.freeze()
    try:
        until(lambda: httpx.get(listed).status_code == 503)  # it keeps the list for a second
        page = open_page(f"{service.server.url}/", outage=True)
        until(lambda: page.evaluate(REFUSED))
        assert page.get_by_role("tab").count() == 0
    finally:
        service.postgresql.thaw()

    expect(page.get_by_role("tab")).to_have_text(["Leaderboard", "This week"], timeout=40_000)


def test_a_lost_network_is_noticed_at_once(service: Service, open_page: OpenPage) -> None:
    page = open_page(f"{service.server.url}/", outage=True)
    wait_for_state(page, "live")

    page.context.set_offline(True)
    wait_for_state(page, "reconnecting")
    page.context.set_offline(False)

    wait_for_state(page, "live")
