"""Pages of other origins: which may read an answer, and that they may read each answer, a refusal too."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import TokenFor
from tests.leaderboard_site.server.lines import Line
from tools.servers import Server

GAME = "https://game.example.org"
ELSEWHERE = "https://elsewhere.example.org"
BOARD = "/api/v1/leaderboard"
INCREMENT = "/api/v1/scores/increment"
TOKEN = "/api/v1/auth/token"


@pytest.fixture(scope="module")
def open_to_games(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "CORS_ORIGINS": GAME, "TOKEN_RATE_LIMIT": "2/minute"}
    server = Server(log=tmp_path_factory.mktemp("open_to_games") / "log", env=env).start()
    yield server
    server.stop()


@pytest.fixture
def site(open_to_games: Server, board: None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=open_to_games.url, timeout=30, verify=False, headers={"Origin": GAME}) as client:
        yield client


def is_readable(answer: httpx.Response) -> bool:
    return answer.headers.get_list("Access-Control-Allow-Origin") == [GAME]


def varies(answer: httpx.Response) -> bool:
    return "origin" in answer.headers.get("Vary", "").lower().replace(" ", "").split(",")


@pytest.mark.parametrize("path", [BOARD, INCREMENT, TOKEN, "/api/v1/auth/register", "/healthz/ready"])
def test_a_preflight_needs_no_token_and_no_allowance(path: str, site: httpx.Client) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}

    for _ in range(3):
        answer = site.options(path, headers=asks)

        assert answer.status_code == 200
        assert is_readable(answer)
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "idempotency-key" in answer.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize("host", ["unknown.example.org", "127.0.0.1, 127.0.0.1"])
def test_a_preflight_for_another_host_is_refused(host: str, site: httpx.Client) -> None:
    answer = site.options(BOARD, headers={"Access-Control-Request-Method": "GET", "Host": host})

    assert answer.status_code == 400


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, "Content-Length: 2\r\n\r\n{}"),
        (413, "Content-Length: 1000000000\r\n\r\n{}"),
        (400, "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_a_preflight_with_a_body_is_none(status: int, body: str, open_to_games: Server) -> None:
    head = (
        f"OPTIONS {INCREMENT} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: {GAME}\r\nAccess-Control-Request-Method: POST\r\n"
    )
    with Line(open_to_games) as line:
        line.say((head + body).encode())

        assert line.some().startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("method", "path"),
    [("OPTIONS", BOARD), ("OPTIONS", TOKEN), ("HEAD", BOARD), ("GET", f"{BOARD}?offset=0&limit=10"), ("GET", BOARD)],
)
def test_an_answer_has_one_length(method: str, path: str, site: httpx.Client) -> None:
    answer = site.request(method, path, headers={"Access-Control-Request-Method": "POST"})

    assert answer.status_code == 200
    assert len(answer.headers.get_list("Content-Length")) == 1


def test_an_answer_is_for_the_origins_that_are_named(site: httpx.Client, token_for: TokenFor) -> None:
    bearer = {"Authorization": f"Bearer {token_for('ann')}"}
    added = site.post(INCREMENT, json={"points": 7}, headers=bearer)
    pages = {origin: site.get(BOARD, headers={"Origin": origin}) for origin in (GAME, ELSEWHERE, "null", "x:y:z")}

    assert (added.status_code, is_readable(added)) == (200, True)
    assert {page.status_code for page in pages.values()} == {200}
    assert {page.content for page in pages.values()} == {pages[GAME].content}
    assert [origin for origin, page in pages.items() if "Access-Control-Allow-Origin" in page.headers] == [GAME]
    assert "X-Leaderboard-Seq" in pages[GAME].headers["Access-Control-Expose-Headers"]


def test_a_cache_keeps_the_answers_of_origins_apart(open_to_games: Server, site: httpx.Client) -> None:
    plain = httpx.get(f"{open_to_games.url}{BOARD}", verify=False)
    unchanged = site.get(BOARD, headers={"If-None-Match": plain.headers["ETag"]})

    assert varies(plain)
    assert "Access-Control-Allow-Origin" not in plain.headers
    assert (unchanged.status_code, is_readable(unchanged), varies(unchanged)) == (304, True, True)


def test_a_static_file_is_for_everybody(site: httpx.Client) -> None:
    """A cache puts the headers of a 304 into what it has: one of its own would keep the file from other origins."""
    answer = site.get("/static/admin/css/base.css")
    unchanged = site.get("/static/admin/css/base.css", headers={"If-None-Match": answer.headers["ETag"]})

    assert answer.headers.get_list("Access-Control-Allow-Origin") == ["*"]
    assert unchanged.status_code == 304
    assert unchanged.headers.get("Access-Control-Allow-Origin", "*") == "*"
    assert not varies(unchanged)


def test_a_refusal_can_be_read(site: httpx.Client, token_for: TokenFor) -> None:
    """Whatever gives it: a view, or what stands before Django. A page saw a network error instead."""
    bearer = {"Authorization": f"Bearer {token_for('ann')}"}
    answers = {
        401: site.post(INCREMENT, json={"points": 1}),
        404: site.get("/api/v1/nothing"),
        405: site.delete(BOARD),
        413: site.post(INCREMENT, content=b" " * 20_000, headers=bearer),
        429: [site.post(TOKEN, json={"username": "ann", "password": "wrong"}) for _ in range(3)][-1],
    }

    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    assert [status for status, answer in answers.items() if not is_readable(answer)] == []
    assert "Retry-After" in answers[429].headers["Access-Control-Expose-Headers"]
    assert int(answers[429].headers["Retry-After"]) >= 1
