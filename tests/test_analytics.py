"""The queries of docs/analytics.md, over files that were exported from events of players."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pytest
from django.core.management import call_command

from scores.boards import definitions
from scores.boards.documents import parse
from scores.boards.fold import rewarder
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Action, Leaderboard
from tests.test_docs import blocks, section
from tools.servers import ROOT

DOCUMENT = (ROOT / "docs" / "analytics.md").read_text()
KEY = "k" * 32
# Far ahead, since the log's clock never goes back.
MONDAY, TUESDAY, NEXT_MONDAY, LATER = (date(2996, 1, day) for day in (4, 5, 11, 20))


def at(day: date, hour: int, *changes: Change) -> int:
    """Record changes at an hour of a day. Returns the number of the last event."""
    Leaderboard.objects.update(at=datetime.combine(day, time(hour), UTC))
    seqs = []
    for outcome in writer.record(changes):
        assert not isinstance(outcome, Exception), repr(outcome)
        seqs.append(outcome.seq)
    return seqs[-1]


def points(user_id: str, number: int) -> Change:
    return Change(Kind.INCREMENT, user_id, number)


def action(user_id: str, name: str) -> Change:
    return Change(Kind.INCREMENT, user_id, action=name)


def tell_the_story() -> None:
    """Ann plays each week, ben two weeks, cleo by mistake, and dan cheats. Eve laps, and is rewarded."""
    log.head()
    Action.objects.create(name="win", points=100)
    definitions.create(parse({"name": "laps", "stream": True, "fold": "best", "order": "lower"}), "test")
    at(MONDAY, 9, action("ann", "win"), points("ann", 5), points("dan", 9_000))
    mistaken = at(MONDAY, 10, points("cleo", 70))
    at(MONDAY, 10, Change(Kind.VOID, "cleo", voids=mistaken, actor="mod"))
    at(TUESDAY, 9, points("ben", 10), Change(Kind.SCORE, "eve", 83, stream="laps"))
    at(TUESDAY, 11, Change(Kind.BLOCK, "fay", actor="mod"), Change(Kind.UNBLOCK, "fay", actor="mod"))
    at(NEXT_MONDAY, 8, action("ben", "win"), points("ann", 1))
    at(NEXT_MONDAY, 9, Change(Kind.BLOCK, "dan", actor="mod"), Change(Kind.CORRECTION, "ben", 50, actor="mod"))
    at(LATER, 23, points("ann", 1), Change(Kind.INCREMENT, "eve", 500, actor=rewarder("laps")))


@pytest.fixture
def warehouse(board: None, tmp_path: Path, settings: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the views of the document, started beside the folder."""
    settings.EXPORT_KEY = KEY
    tell_the_story()
    # Files of an epoch that is over must not count.
    call_command("export_events", "--to", str(tmp_path / "export"), stdout=StringIO(), stderr=StringIO())
    log.begin_epoch(log.head().origin)
    call_command("export_events", "--to", str(tmp_path / "export"), stdout=StringIO(), stderr=StringIO())
    with duckdb.connect() as connection:
        connection.execute(f"SET file_search_path = '{tmp_path}'")
        for view in blocks(section(DOCUMENT, "## Queries").partition("\n### ")[0], "sql"):
            connection.execute(view)
        yield connection


def hashed(name: str) -> str:
    return hmac.digest(KEY.encode(), name.encode(), hashlib.sha256).hex()


def answers(warehouse: duckdb.DuckDBPyConnection, heading: str) -> list[Any]:
    (query,) = blocks(section(DOCUMENT, f"### {heading}"), "sql")
    return warehouse.execute(query).fetchall()


def test_the_queries_answer_what_happened(warehouse: duckdb.DuckDBPyConnection) -> None:
    week_1, week_2, week_3 = MONDAY, NEXT_MONDAY, date(2996, 1, 18)
    found = {heading: answers(warehouse, heading) for heading in headings()}

    assert found == {
        # Ann and dan, who is no cheater yet; cleo's point was taken back.
        "Active players per day": [(MONDAY, 2), (TUESDAY, 2), (NEXT_MONDAY, 2), (LATER, 1)],
        "Active players per week": [(week_1, 4), (week_2, 2), (week_3, 1)],
        "New players per day": [(MONDAY, 2), (TUESDAY, 2)],
        "Points per action": [("win", 2, 2, 200), ("points", 4, 2, 17)],
        "Retention by weekly cohort": [(week_1, 0, 4, 100), (week_1, 1, 2, 50), (week_1, 2, 1, 25)],
        "Increments per hour": [
            (datetime(2996, 1, 4, 9), 3, 9_105),  # noqa: DTZ001  as DuckDB has it: without a zone
            (datetime(2996, 1, 4, 10), 1, 70),  # noqa: DTZ001
            (datetime(2996, 1, 5, 9), 1, 10),  # noqa: DTZ001
            (datetime(2996, 1, 11, 8), 2, 101),  # noqa: DTZ001
            (datetime(2996, 1, 20, 23), 2, 501),  # noqa: DTZ001
        ],
        "The board": [(hashed("eve"), 500), (hashed("ann"), 107), (hashed("ben"), 50), (hashed("cleo"), 0)],
    }


def test_the_board_of_the_document_is_the_board(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert answers(warehouse, "The board") == [
        (hashed(user), total) for user, total in sorted(log.visible_totals(chunk=100), key=lambda row: -row[1])
    ]


def test_the_document_computes_the_pseudonym_that_files_have() -> None:
    (code,) = blocks(DOCUMENT, "python")
    names: dict[str, Any] = {}
    exec(code, names)

    assert names["pseudonym"]("ann", KEY) == hashed("ann")


def headings() -> list[str]:
    """What queries of the document are for."""
    _, *parts = section(DOCUMENT, "## Queries").split("\n### ")
    return [part.partition("\n")[0] for part in parts]
