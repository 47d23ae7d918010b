"""The page at `/` before its script runs."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from scores import services
from tools.servers import ROOT, Server


def test_it_shows_the_board_as_it_is(server: Server) -> None:
    for user_id, total in (("<b>ann</b>", 1234), ("bob", 1234), ("cyd", 5)):
        services.correct(user_id=user_id, total=total, actor="test", reason="test")

    answer = httpx.get(f"{server.url}/", verify=False)

    assert answer.status_code == 200
    assert re.findall(
        r'<td class="rank">(.*?)</td>.*?<bdi title="(.*?)">(.*?)</bdi>.*?<span>(.*?)</span>.*?width="(.*?)"',
        answer.text,
        re.DOTALL,
    ) == [
        ("1", "bob", "bob", "1,234", "100.00%"),
        ("1", "&lt;b&gt;ann&lt;/b&gt;", "&lt;b&gt;ann&lt;/b&gt;", "1,234", "100.00%"),
        ("3", "cyd", "cyd", "5", "0.41%"),
    ]


@pytest.mark.writes_nothing
def test_everything_it_asks_for_is_served_from_here(server: Server) -> None:
    answer = httpx.get(f"{server.url}/", verify=False)

    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r'(src|href)="(?!/|data:)', answer.text)
    for file in sorted((ROOT / "leaderboard_site/static/leaderboard").iterdir()):
        part = httpx.get(f"{server.url}/static/leaderboard/{file.name}", verify=False)
        assert (part.status_code, part.content) == (200, file.read_bytes())


@pytest.mark.writes_nothing
def test_nothing_of_it_is_inline(server: Server) -> None:
    page = httpx.get(f"{server.url}/", verify=False).text

    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=", page)


@pytest.mark.writes_nothing
def test_players_sign_up_and_play_where_that_is_allowed(server: Server) -> None:
    page = httpx.get(f"{server.url}/", verify=False).text

    assert 'class="sign-up"' in page
    assert 'class="play ' in page


@pytest.mark.writes_nothing
def test_the_wall_has_nothing_to_press(server: Server) -> None:
    page = httpx.get(f"{server.url}/?view=wall", verify=False).text

    assert "<live-leaderboard" in page
    assert "<button" not in page


@pytest.mark.writes_nothing
def test_in_production_nobody_signs_up_or_plays_unless_it_is_said(server: Server, tmp_path: Path) -> None:
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "PLAY_AREA": "", "REGISTRATION": ""}
    production = Server(log=tmp_path / "log", env=env).start()
    try:
        page = httpx.get(f"{production.url}/", verify=False).text
    finally:
        production.stop()

    assert 'class="sign-in' in page
    assert 'class="sign-up"' not in page
    assert 'class="play ' not in page
