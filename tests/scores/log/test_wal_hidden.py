"""A PostgreSQL that does not show its write-ahead log to the service's role, as some providers' do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.db import connection, connections

from scores.log.head import Log, log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.writer import Writer
from scores.projection.leaderboard import Copy, leaderboard
from scores.projection.tail import Tail
from tests.conftest import TokenFor, database_url
from tests.polling import until
from tools.servers import Server

FUNCTIONS = ("pg_control_system()", "pg_current_wal_lsn()", "pg_walfile_name(pg_lsn)")


def revoke() -> None:
    with connection.cursor() as cursor:
        for function in FUNCTIONS:
            cursor.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")


def grant() -> None:
    with connection.cursor() as cursor:
        for function in FUNCTIONS:
            cursor.execute(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")


@pytest.fixture
def role(board: None) -> Iterator[str]:
    """A role that owns nothing and may use the tables."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE app LOGIN")
        cursor.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app")
        cursor.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app")
    yield "app"
    grant()
    with connection.cursor() as cursor:
        cursor.execute("DROP OWNED BY app")
        cursor.execute("DROP ROLE app")


@pytest.fixture
def own(role: str) -> Iterator[Log]:
    """The log as that role sees it."""
    connections.databases[role] = connections.databases["default"] | {"USER": role}
    yield Log("leaderboard", alias=role)
    connections[role].close()
    del connections[role], connections.databases[role]


def test_the_service_works_and_says_once_what_it_cannot_see(
    role: str, tmp_path: Path, token_for: TokenFor, redis: object
) -> None:
    revoke()
    url = database_url().replace("postgres@", f"{role}@")
    server = Server(log=tmp_path / "log", env={"DATABASE_URL": url}).start()
    try:
        headers = {"Authorization": f"Bearer {token_for('ann')}"}
        posted = httpx.post(f"{server.url}/api/v1/scores/increment", json={"points": 10}, headers=headers, verify=False)
        assert posted.json() == {"success": True, "newScore": 10}
        until(lambda: read(server) == ("redis", 10))
    finally:
        server.stop()

    said = [line for line in server.log.read_text().splitlines() if "write-ahead log" in line]
    assert len(said) == 1
    assert "Traceback" not in server.log.read_text()


def read(server: Server) -> tuple[str, int]:
    answer = httpx.get(f"{server.url}/api/v1/leaderboard", verify=False)
    rows = answer.json()["leaderboard"]
    return answer.headers["X-Leaderboard-Source"], rows[0]["score"] if rows else 0


def test_a_right_that_is_taken_away_and_given_back_changes_the_origin_and_loses_nothing(own: Log) -> None:
    writer, tail = Writer(own), Tail(Copy(leaderboard.board, own))
    assert writer.record([Change(Kind.INCREMENT, "ann", 1)]) == [Recorded(1, 1)]
    seen = own.head().origin

    revoke()
    assert writer.record([Change(Kind.INCREMENT, "ann", 1)]) == [Recorded(2, 2)]
    hidden = own.head().origin
    grant()
    own._look_at_wal_at = 0.0  # instead of five seconds
    tail.check()

    assert seen.startswith(hidden)
    assert seen != hidden
    assert own.head().origin == seen == log.head().origin


def test_a_database_that_was_put_back_is_recognised_by_its_events_alone(own: Log) -> None:
    revoke()
    Writer(own).record([Change(Kind.INCREMENT, "ann", 1)])
    before = own.head().origin
    with connection.cursor() as cursor:
        cursor.execute("UPDATE score_events SET created_at = created_at + interval '1 microsecond'")

    assert own.head().origin != before
