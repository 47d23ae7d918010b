"""The page at `/` before its script runs."""

from __future__ import annotations

import httpx

from scores import services
from tests.servers import Server


def test_it_shows_the_board_as_it_is(server: Server) -> None:
    for user_id, total in (("<b>ann</b>", 1234), ("bob", 1234), ("cyd", 5)):
        services.correct(user_id=user_id, total=total, actor="test", reason="test")

    answer = httpx.get(f"{server.url}/")

    assert answer.status_code == 200
    rows = [line.strip() for line in answer.text.splitlines() if line.strip().startswith("<tr><td>")]
    assert rows == [
        '<tr><td>1</td><td dir="auto">bob</td><td>1,234</td></tr>',
        '<tr><td>1</td><td dir="auto">&lt;b&gt;ann&lt;/b&gt;</td><td>1,234</td></tr>',
        '<tr><td>3</td><td dir="auto">cyd</td><td>5</td></tr>',
    ]


def test_everything_it_asks_for_is_served_from_here(server: Server) -> None:
    answer = httpx.get(f"{server.url}/")

    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for path, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("client.js", "text/javascript")):
        part = httpx.get(f"{server.url}/static/leaderboard/{path}")
        assert (part.status_code, part.headers["Content-Type"].partition(";")[0]) == (200, kind)
