"""The examples of docs/clients.md that need no browser do what the page says. The others: tests/browser/test_examples.py."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from scores import services
from tools.servers import ROOT, Server

from .conftest import TokenFor

TEXT = (ROOT / "docs" / "clients.md").read_text()


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def python() -> dict[str, Any]:
    (code,) = examples("python")
    names: dict[str, Any] = {}
    exec(code, names)
    return names


class Lossy(BaseHTTPRequestHandler):
    """Passes each request on, and loses the first answer."""

    url: str
    lost = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = httpx.post(f"{self.url}{self.path}", content=body, headers=dict(self.headers), timeout=30)
        if not type(self).lost:
            type(self).lost = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def lossy_line(server: Server) -> Iterator[str]:
    handler = type("Handler", (Lossy,), {"url": server.url})
    with HTTPServer(("127.0.0.1", 0), handler) as line:
        thread = threading.Thread(target=line.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{line.server_address[1]}"
        line.shutdown()
        thread.join()


def test_every_example_is_in_a_language_that_is_run() -> None:
    assert set(re.findall(r"^```(\w+)$", TEXT, re.MULTILINE)) == {"html", "js", "python", "sh"}


async def test_the_python_example_sees_each_board(server: Server, python: dict[str, Any]) -> None:
    boards = python["boards"](server.ws_url)

    first = await anext(boards)
    await asyncio.to_thread(services.correct, user_id="ann", total=5, actor="test", reason="test")
    while (second := await anext(boards))["seq"] < 1:
        pass  # the empty board again, with an age: the machine stood still
    await boards.aclose()

    assert first["leaderboard"] == []
    assert second["leaderboard"] == [{"userId": "ann", "score": 5}]


def test_the_python_example_counts_once_when_an_answer_is_lost(
    server: Server, python: dict[str, Any], token_for: TokenFor
) -> None:
    with lossy_line(server) as url, httpx.Client(base_url=url, timeout=30) as client:
        totals = [python["increment"](client, token_for("ann"), points) for points in (10, 5)]

    assert totals == [10, 15]


def test_the_curl_example_scores_and_reads(server: Server, tmp_path: Path) -> None:
    (script,) = examples("sh")
    script = script.replace("https://scores.example.org", server.url)

    ran = subprocess.run(["bash", "-eu"], input=script, cwd=tmp_path, capture_output=True, text=True, check=True)

    decoder = json.JSONDecoder()
    told, rest = [], ran.stdout
    while rest.startswith("{"):
        body, end = decoder.raw_decode(rest)
        told.append(body)
        rest = rest[end:]
    assert told[0] == {"success": True, "newScore": 10}
    assert (told[1]["userId"], told[1]["rank"]) == ("ada", 1)
    assert told[2]["leaderboard"] == [{"rank": 1, "userId": "ada", "score": 10}]
    assert rest == "304"
