"""A few of the cases of `make fuzz`, which has ten thousand."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random

from scores import services
from scores.models import ScoreEvent
from tests.conftest import TokenFor
from tools.fuzz import schema
from tools.fuzz.cases import Case, cases
from tools.fuzz.run import run
from tools.servers import ROOT, Server

MANY = 600


def test_bent_requests_are_answered_and_leave_no_trace(server: Server, token_for: TokenFor) -> None:
    tokens = [token_for("ann"), token_for("arena", scope="scores:write:any")]
    seed = Random().randrange(2**32)

    bent = islice(cases(Random(seed), tokens), MANY)
    report = run(bent, server.port, [server.process.pid], ScoreEvent.objects.count)

    assert report.faults == [], f"seed {seed}"
    assert report.written > 0
    assert len(report.answers) > 20


def test_a_row_that_no_answer_accounts_for_is_seen(server: Server, token_for: TokenFor) -> None:
    def events() -> int:
        services.correct(user_id="bob", total=5, actor="test", reason="behind everybody's back")
        return ScoreEvent.objects.count()

    report = run([Case(token_for("ann"))], server.port, [server.process.pid], events)

    assert report.written > 0  # more than one if the server was busy with other things: it is sent again then
    assert report.faults == [f"{report.written + 1} rows in the log after {report.written} answers of 200"]


def test_the_same_seed_makes_the_same_cases() -> None:
    one, other = (list(islice(cases(Random(7), ["token"]), 50)) for _ in range(2))

    assert one == other


SMALL = """
openapi: 3.1.0
info: {title: The increment, version: "1"}
paths:
  /api/v1/scores/increment:
    post:
      requestBody:
        content: {application/json: {schema: {type: object, properties: {points: {type: integer}}, required: [points]}}}
      responses: {"200": {description: The new total.}}
"""


def test_requests_by_the_schema_are_answered(server: Server, token_for: TokenFor, tmp_path: Path) -> None:
    path = ROOT / "docs" / "openapi.yaml"
    if not path.exists():
        path = tmp_path / "small.yaml"
        path.write_text(SMALL)

    assert schema.run(path, server.url, token_for("ann"), cases=60, seed=1) == 0


def test_without_a_schema_there_is_nothing_to_go_by(tmp_path: Path) -> None:
    assert schema.run(tmp_path / "openapi.yaml", "http://127.0.0.1:1", "token", cases=1, seed=1) is None
