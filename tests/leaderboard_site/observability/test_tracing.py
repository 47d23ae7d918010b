"""A request and the lines about it in the log can be told by the same id, and no line tells a secret."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from leaderboard_site.observability import logs, tracing
from tests.conftest import TokenFor
from tools.servers import Server


@pytest.fixture(scope="module")
def _logging(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}
    logging_ = Server(log=tmp_path_factory.mktemp("logging") / "log", env=env).start()
    yield logging_
    logging_.stop()


@pytest.fixture
def verbose(_logging: Server, board: None) -> Server:
    """A server that logs all there is, as JSON."""
    return _logging


def lines_of(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


@pytest.mark.parametrize("path", ["/healthz/live", "/api/v1/leaderboard", "/api/v1/auth/token", "/nothing", "/metrics"])
@pytest.mark.writes_nothing
def test_every_answer_carries_the_id_that_came_with_the_request(path: str, server: Server) -> None:
    answer = httpx.get(server.url + path, headers={"X-Request-ID": "deploy-17.a_b~c"}, verify=False)

    assert answer.headers.get_list("X-Request-ID") == ["deploy-17.a_b~c"]


@pytest.mark.parametrize("bad", ["", "x" * 65, "a b", 'a"b', "a;b", "é".encode()])
@pytest.mark.writes_nothing
def test_an_id_that_could_mean_something_else_is_replaced(bad: Any, server: Server) -> None:
    answers = [httpx.get(f"{server.url}/healthz/live", headers={"X-Request-ID": bad}, verify=False) for _ in range(2)]

    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert ids[0] != ids[1]
    assert all(tracing.GOOD_ID.fullmatch(new.encode()) for new in ids)


@pytest.mark.uvicorn("has a log of requests of its own")
def test_every_line_is_json_and_none_tells_a_secret(verbose: Server, token_for: TokenFor) -> None:
    token = token_for("ann")
    headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "the-one"}
    secret = {"username": "ann", "password": "a-swordfish-of-ours", "refresh": token_for("ann")}
    for path in ("register", "token", "refresh", "logout"):
        httpx.post(f"{verbose.url}/api/v1/auth/{path}?token={token}", json=secret, timeout=30, verify=False)
    for body in (b'{"points": 31337}', b'{"points": "31337"}', b"{31337"):
        httpx.post(
            f"{verbose.url}/api/v1/scores/increment?token={token}",
            content=body,
            headers=headers | {"Content-Type": "application/json"},
        )

    text = verbose.log.read_text()

    assert lines_of(verbose)
    assert {"timestamp", "level", "logger", "event"} <= lines_of(verbose)[-1].keys()
    for forbidden in ("a-swordfish-of-ours", "31337", "Bearer", *token.split("."), *secret["refresh"].split(".")):
        assert forbidden not in text


@pytest.mark.uvicorn("has a log of requests of its own")
def test_a_line_names_the_request_it_is_about(verbose: Server) -> None:
    wrong = {"username": "nobody", "password": "a-swordfish-of-ours"}
    httpx.post(f"{verbose.url}/api/v1/auth/token", json=wrong, headers={"X-Request-ID": "lost"}, verify=False)

    (line,) = [line for line in lines_of(verbose) if line.get("request_id") == "lost"]
    assert line["request"] == "POST /api/v1/auth/token"
    assert line["level"] == "warning"


@pytest.mark.uvicorn("has a log of requests of its own")
def test_no_client_fills_the_log(verbose: Server) -> None:
    """Neither with requests that are refused nor with long texts; of what may be a wrong setting there is one line."""
    before = len(lines_of(verbose))
    with httpx.Client(base_url=verbose.url, verify=False) as client:
        refused = [
            *(client.get(path) for path in ("/nothing", "/%ff", "/static/nothing", "/api/v1/auth/nothing", "/admin/x")),
            *(client.post(path) for path in ("/api/v1/auth/token", "/admin/login/", "/admin/login/")),
            *(client.get("/admin/", headers={"Host": f"host-{number // 2}.example"}) for number in range(300)),
            client.get(f"/admin/{'%01' * 5_000}", headers={"Host": "x" * 40_000}),
        ]

    assert {answer.status_code for answer in refused} <= {302, 400, 403, 404}
    lines = [line for line in lines_of(verbose)[before:] if line["logger"].startswith("django.")]
    lines = [line for line in lines if line["level"] != "debug"]
    assert {line["logger"] for line in lines} == {"django.security.csrf", "django.security.DisallowedHost"}
    assert len([line for line in lines if line["logger"] == "django.security.csrf"]) == 1
    assert 90 < len(lines) <= logs.MOST_NAMED + 1
    assert "100 are named by now, and no more will be" in lines[-1]["event"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("text", ["\x01" * 60_000, "\n\x1b[2J\x7f\x9b\u202e\u2028", "\ud800" * 2_000])
def test_no_client_chooses_how_long_a_line_is_or_what_a_terminal_makes_of_it(
    text: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = logs.formatter(form)
    format_line = configured.pop("()")(**configured).format
    scope = {"method": "GET", "path": f"/{text}", "request_id": b"long", "headers": []}
    token = tracing._current.set(scope)
    try:
        line = format_line(logging.LogRecord("a", logging.ERROR, "", 0, "%s failed", (text,), None))
    finally:
        tracing._current.reset(token)

    assert line.isprintable()
    assert len(line) < 3_000
    assert len(text) < 2_000 or "characters)" in line


def test_a_failure_of_ours_has_its_line_and_a_refusal_has_none() -> None:
    refusals = logs.RefusalFilter()
    failure = (ValueError, ValueError("ours"), None)

    def is_kept(status: int, exc_info: Any = None) -> bool:
        record = logging.LogRecord("django.request", logging.ERROR, "", 0, "%s: %s", ("Not Found", "/"), exc_info)
        record.status_code = status
        return refusals.filter(record)

    assert [status for status in (400, 403, 404, 405, 413, 500, 502, 503) if is_kept(status)] == [500, 502]
    assert is_kept(500, failure)
    assert is_kept(503, failure)


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_stays_whole(form: str) -> None:
    configured = logs.formatter(form)
    format_line = configured.pop("()")(**configured).format
    try:
        raise ValueError("\x1b[2J" + "x" * 5_000 + "the end")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "y" * 5_000, (), sys.exc_info())

    line = format_line(record)

    assert "x" * 5_000 + "the end" in line
    assert "\x1b" not in line
    assert "y" * logs.MAX_TEXT + "… (5,000 characters)" in line
    assert "y" * (logs.MAX_TEXT + 1) not in line


async def test_a_mistake_is_logged_with_its_request_and_user_and_without_variables(
    server: Server, token_for: TokenFor, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the very application and formatters, with a view that breaks, of which there is none to call."""
    from leaderboard_site.edge.handlers import LeanHandler

    class Broken(LeanHandler):
        async def _call_view(self, request: Any) -> Any:
            password = "a-swordfish-of-ours"
            request.user = type("Principal", (), {"user_id": "ann"})()
            raise ZeroDivisionError(len(password))

    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/leaderboard",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"x-request-id", b"the-one")],
    }
    for form in ("json", "console"):
        handler = logging.StreamHandler(sys.stderr)
        configured = logs.formatter(form)
        handler.setFormatter(configured.pop("()")(**configured))
        logging.getLogger("leaderboard_site.edge.handlers").addHandler(handler)
        try:
            await tracing.Tracing(Broken())(scope, receive, send)
        finally:
            logging.getLogger("leaderboard_site.edge.handlers").removeHandler(handler)
        line = capsys.readouterr().err

        assert "a-swordfish-of-ours" not in line
        assert "ZeroDivisionError" in line
        assert "the-one" in line
        if form == "json":
            assert json.loads(line) | {"request_id": "the-one", "user_id": "ann", "level": "error"} == json.loads(line)
    assert told[0]["status"] == 500
    assert (b"x-request-id", b"the-one") in told[0]["headers"]
