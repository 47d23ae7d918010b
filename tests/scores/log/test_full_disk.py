"""A disk that is full: nothing is recorded, everybody is told why, and afterwards it heals by itself."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.contrib.auth.models import User
from django.test import Client

from leaderboard_site.local import DataDirectory
from leaderboard_site.operations.health import readiness
from scores.exceptions import OutcomeUnknown
from scores.log.ledger import Change, Kind, Recorded
from scores.log.writer import writer
from scores.projection.leaderboard import leaderboard
from tests.conftest import database_url

MANY = [Change(Kind.INCREMENT, f"user{number}", 1) for number in range(500)]  # more than fit into a page


@pytest.fixture
def disk(board: None, tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB with the table of events on it."""
    place = tmp_path / "disk"
    place.mkdir()
    uid, gid = DataDirectory(Path(os.environ["DATA_DIR"])).unprivileged()
    options = f"size=1m,mode=700,uid={uid},gid={gid}"
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]).returncode:
        pytest.skip("only root may mount a small disk, and not everywhere")
    with psycopg.connect(database_url(), autocommit=True) as database:
        try:
            (place / "tablespace").mkdir(mode=0o700)
            os.chown(place / "tablespace", uid, gid)
            database.execute("DROP TABLESPACE IF EXISTS small")  # of a run that was killed
            database.execute(f"CREATE TABLESPACE small LOCATION '{place}/tablespace'")
            database.execute("TRUNCATE score_events")  # of the room that deleted events leave
            database.execute("ALTER TABLE score_events SET TABLESPACE small")
            yield place
        finally:
            database.execute("ALTER TABLE score_events SET TABLESPACE pg_default")
            database.execute("DROP TABLESPACE IF EXISTS small")
            subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(2**20))
    return ballast


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "scores.log.writer"]


def test_a_full_disk_is_named_once_and_forgotten_when_there_is_room(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scores.log.writer")
    ballast = fill(disk)

    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            writer.record(MANY)

    (line,) = said(caplog)
    assert line.startswith("The database does not record changes: 53100 DiskFull: could not extend file")
    assert line.endswith("No space left on device")
    assert asyncio.run(readiness()) == (200, "degraded")

    ballast.unlink()

    assert {type(outcome) for outcome in writer.record(MANY)} == {Recorded}
    assert said(caplog)[1:] == ["The database records changes again"]
    assert asyncio.run(readiness()) == (200, "ok")


def test_an_administrator_is_told_what_is_full(disk: Path) -> None:
    staff = Client()
    staff.force_login(User.objects.create_superuser("admin"))
    leaderboard.rebuild()
    ballast = fill(disk)

    with pytest.raises(OutcomeUnknown):
        writer.record(MANY)
    told = staff.get("/healthz/deep")

    assert told.status_code == 503
    assert told.json()["writer"]["error"] == "53100 DiskFull"

    ballast.unlink()
    writer.record(MANY)
    assert staff.get("/healthz/deep").json()["writer"]["status"] == "ok"
