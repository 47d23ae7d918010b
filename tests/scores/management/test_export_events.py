"""`manage.py export_events`: what is in the files, that each event is in one of them, and what it refuses."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Leaderboard, ScoreEvent
from scores.warehouse import events
from scores.warehouse import export as export_module
from scores.warehouse.pseudonyms import Pseudonyms
from tests.conftest import database_url
from tests.polling import until
from tools.servers import ROOT

NOON = datetime(2996, 1, 4, 12, tzinfo=UTC)
# Rows of a log, which is a second per event long.
FILL_SQL = """
    INSERT INTO score_events (seq, user_id, kind, points, total, created_at)
    SELECT n, 'user' || n %% 1000, 'increment', 1, n, %(noon)s::timestamptz + n * interval '1 second'
    FROM generate_series(1, %(events)s) AS n
"""


@pytest.fixture(autouse=True)
def _board(board: None) -> None:
    log.head()  # it is there


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "warehouse" / "events"


def score(*users: str, at: datetime = NOON) -> None:
    """Each of `users` gets a point."""
    record(*(Change(Kind.INCREMENT, user, 1) for user in users), at=at)


def record(*changes: Change, at: datetime = NOON) -> None:
    Leaderboard.objects.update(at=at)  # the log's clock, which the real one is behind
    assert not [outcome for outcome in writer.record(changes) if isinstance(outcome, Exception)]


def fill(number: int) -> None:
    """Put events into the log that nobody wrote."""
    with connection.cursor() as cursor:
        cursor.execute(FILL_SQL, {"events": number, "noon": NOON})
    Leaderboard.objects.update(seq=number)


def export(folder: Path, *options: str) -> str:
    """What the command says."""
    out = StringIO()
    call_command("export_events", "--to", str(folder), *options, stdout=out, stderr=out)
    return out.getvalue()


def was_killed_amid_a_file(folder: Path) -> bool:
    """Whether an export to the empty folder was at work on a file when it was killed, as it is at nearly all times."""
    command = [sys.executable, "manage.py", "export_events", "--to", str(folder)]
    env = os.environ | {"DATABASE_URL": database_url()}
    running = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while running.poll() is None:
        running.send_signal(signal.SIGSTOP)  # whose effect is immediate, so what is seen now is so until the kill
        if list(folder.glob("day=*/.*.partial")):
            running.kill()
            return running.wait() == -signal.SIGKILL
        running.send_signal(signal.SIGCONT)
        time.sleep(0.005)
    shutil.rmtree(folder)
    return False


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("day=*/*"))


def ranges(folder: Path) -> list[tuple[int, int]]:
    """The first and the last event of each file, by their names."""
    found = [path.stem.split("-")[2:] for path in folder.glob("day=*/events-*.parquet")]
    return sorted((int(first), int(last)) for first, last in found)


def rows(folder: Path, columns: str) -> list[Any]:
    source = f"read_parquet('{folder}/day=*/events-*.parquet', hive_partitioning = true)"
    with duckdb.connect() as warehouse:
        return warehouse.execute(f"SELECT {columns} FROM {source} ORDER BY epoch, seq").fetchall()


def has_every_event_once(folder: Path, number: int) -> bool:
    return [seq for (seq,) in rows(folder, "seq")] == list(range(1, number + 1))


# What is in the files


def test_files_have_what_the_log_has(folder: Path) -> None:
    metadata = '{"car": "\\u00e9\\n \\"GT\\""}'
    strange = 'a"b\\c,(d) \u00e9'
    fill(1)
    ScoreEvent.objects.update(user_id=strange, metadata=metadata, stream="", actor="service:arena-1")
    score("ann")
    record(Change(Kind.VOID, "ann", voids=2, actor="mod"))

    export(folder, "--ids")

    columns = ["seq", "user_id", "kind", "points", "total", "action", "stream", "voids", "hidden", "actor", "metadata"]
    assert rows(folder, ", ".join(columns)) == list(ScoreEvent.objects.order_by("seq").values_list(*columns))
    at = [at for (at,) in rows(folder, "created_at")]
    assert at == list(ScoreEvent.objects.order_by("seq").values_list("created_at", flat=True))


def test_users_and_moderators_are_hashed_by_the_key_and_services_are_not(folder: Path, settings: Any) -> None:
    settings.EXPORT_KEY = "k" * 32
    record(Change(Kind.INCREMENT, "ann", 1, actor="service:arena-1"))
    record(Change(Kind.CORRECTION, "ann", 7, actor="moderator"), Change(Kind.INCREMENT, "ben", 1))

    export(folder)

    ann, ben, moderator = (
        hmac.digest(b"k" * 32, name, hashlib.sha256).hex() for name in (b"ann", b"ben", b"moderator")
    )
    assert rows(folder, "user_id, actor") == [(ann, "service:arena-1"), (ann, moderator), (ben, "")]
    assert not [path for path in folder.glob("day=*/*") if b"ann" in path.read_bytes()]
    with pytest.raises(duckdb.BinderException, match="metadata"):
        rows(folder, "metadata")


def test_without_a_key_hashes_follow_from_the_secret_key(folder: Path, settings: Any) -> None:
    score("ann")
    export(folder / "one")
    export(folder / "two")
    settings.SECRET_KEY = "s" * 50
    export(folder / "three")

    one, two, three = (rows(folder / name, "user_id") for name in ("one", "two", "three"))
    assert one == two != three


@pytest.mark.parametrize("length", [32, 64, 65, 200])
def test_a_pseudonym_is_the_hmac_of_the_standard_library(length: int) -> None:
    key = b"k" * length

    assert Pseudonyms(key).of("Zoë") == hmac.digest(key, "Zoë".encode(), hashlib.sha256).hex()


@pytest.mark.parametrize("remembered", [10, 500, 10_000])
def test_a_user_has_one_hash_however_many_there_are(
    folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    settings.EXPORT_KEY = "k" * 32
    monkeypatch.setattr(events, "CHUNK", 300)
    monkeypatch.setattr(events, "REMEMBERED", remembered)
    fill(2_500)

    export(folder)

    pseudonyms = Pseudonyms(b"k" * 32)
    users = ScoreEvent.objects.order_by("seq").values_list("user_id", flat=True)
    assert rows(folder, "user_id") == [(pseudonyms.of(user),) for user in users]


def test_each_day_has_files_of_its_own(folder: Path) -> None:
    midnight = NOON.replace(day=5, hour=0)
    score("ann", "ben", at=NOON.replace(hour=23))
    score("ann", at=midnight)

    export(folder)

    epoch = log.head().origin[:8]
    assert names(folder) == [
        f"day=2996-01-04/events-{epoch}-000000000001-000000000002.parquet",
        f"day=2996-01-05/events-{epoch}-000000000003-000000000003.parquet",
    ]
    assert [str(day) for (day,) in rows(folder, "day")] == ["2996-01-04", "2996-01-04", "2996-01-05"]


def test_times_that_went_back_over_midnight_are_in_the_files_of_their_days(folder: Path) -> None:
    fill(4)
    ScoreEvent.objects.filter(seq=3).update(created_at=NOON.replace(day=3))

    export(folder)

    assert ranges(folder) == [(1, 2), (3, 3), (4, 4)]
    assert [day.day for (day,) in rows(folder, "day")] == [4, 4, 3, 4]


def test_an_empty_log_makes_no_file(folder: Path) -> None:
    said = export(folder)

    assert "Exported 0 events in 0 files" in said
    assert names(folder) == []


# Where it continues


def test_a_second_export_adds_nothing(folder: Path) -> None:
    score("ann", "ben")
    export(folder)
    before = names(folder)

    said = export(folder)

    assert "Exported 0 events in 0 files" in said
    assert names(folder) == before


def test_an_export_continues_after_the_last_file(folder: Path) -> None:
    score("ann", "ben")
    export(folder)
    score("ann")

    export(folder)

    assert ranges(folder) == [(1, 2), (3, 3)]
    assert has_every_event_once(folder, 3)


def test_a_long_log_is_read_in_portions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "PORTION", 400)
    fill(1_000)

    export(folder)

    assert ranges(folder) == [(1, 400), (401, 800), (801, 1_000)]
    assert has_every_event_once(folder, 1_000)


def test_a_kill_leaves_no_half_file_and_the_next_export_completes(folder: Path) -> None:
    fill(200_000)
    until(lambda: was_killed_amid_a_file(folder))
    (half,) = folder.glob("day=*/.*.partial")
    whole = ranges(folder)

    export(folder)

    assert not half.exists()
    assert set(whole) < set(ranges(folder))
    assert has_every_event_once(folder, 200_000)


def test_a_file_that_was_deleted_between_others_is_written_again(folder: Path) -> None:
    for user in ("ann", "ben", "cleo"):
        score(user)
        export(folder)
    next(folder.glob("day=*/*-000000000002.parquet")).unlink()

    said = export(folder)

    assert "No file had event 2, so somebody deleted one." in said
    assert "Exported 1 events" in said
    assert has_every_event_once(folder, 3)


def test_old_files_that_were_moved_away_do_not_come_back(folder: Path) -> None:
    for user in ("ann", "ben"):
        score(user)
        export(folder)
    next(folder.glob("day=*/*-000000000001.parquet")).unlink()

    export(folder)

    assert ranges(folder) == [(2, 2)]


def test_events_that_were_archived_before_they_were_exported_are_named_and_no_obstacle(folder: Path) -> None:
    score("ann")
    export(folder)
    score("ann", "ben", "cleo")
    ScoreEvent.objects.filter(seq__lt=4).delete()

    first, second = export(folder), export(folder)

    assert "No file has events 2 to 3: the log does not have that any more." in first
    assert "No file has events 2 to 3" in second
    assert "Exported 0 events" in second
    assert ranges(folder) == [(1, 1), (4, 4)]


def test_a_log_whose_beginning_was_archived_begins_with_what_it_has(folder: Path) -> None:
    score("ann", "ben", "cleo")
    ScoreEvent.objects.filter(seq=1).delete()

    said = export(folder)

    assert "No file" not in said
    assert ranges(folder) == [(2, 3)]


# Epochs


def test_a_new_epoch_begins_with_the_first_event(folder: Path) -> None:
    score("ann", "ben")
    export(folder)
    old = log.head().origin[:8]
    log.begin_epoch(log.head().origin)

    export(folder)

    new = log.head().origin[:8]
    assert sorted(rows(folder, "epoch, seq")) == sorted([(old, 1), (old, 2), (new, 1), (new, 2)])
    assert json.loads((folder / "_export.json").read_text())["epoch"] == new


def test_the_folder_names_the_new_epoch_when_that_is_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score("ann", "ben")
    export(folder)
    old = log.head().origin[:8]
    log.begin_epoch(log.head().origin)
    named = []
    write = export_module._write

    def watched(*arguments: Any) -> int:
        files = write(*arguments)
        named.append(json.loads((folder / "_export.json").read_text())["epoch"])
        return files

    monkeypatch.setattr(export_module, "_write", watched)
    export(folder)

    assert named == [old]


def put_back_and_go_on() -> None:
    """As after a restore to event 1 and another event 2, when no process remembers the old one."""
    ScoreEvent.objects.filter(seq=2).update(created_at=NOON.replace(hour=13))
    log._seen = None


def put_back() -> None:
    """As after a restore to event 1."""
    ScoreEvent.objects.filter(seq=2).delete()
    Leaderboard.objects.update(seq=1)
    log._seen = None


@pytest.mark.parametrize(("restore", "left"), [(put_back, 1), (put_back_and_go_on, 2)])
def test_a_database_that_was_put_back_unnoticed_gets_a_new_epoch(
    folder: Path, restore: Callable[[], None], left: int
) -> None:
    score("ann", "ben")
    export(folder)
    old = log.head().origin[:8]
    restore()

    export(folder)

    new = log.head().origin[:8]
    assert new != old
    assert sorted(rows(folder, "epoch, seq")) == sorted(
        [(old, 1), (old, 2), *((new, seq) for seq in range(1, left + 1))]
    )


# What it refuses


def test_ids_and_hashes_are_not_mixed(folder: Path) -> None:
    score("ann")
    export(folder)

    with pytest.raises(CommandError, match="were written without --ids"):
        export(folder, "--ids")


def test_another_key_is_refused(folder: Path, settings: Any) -> None:
    score("ann")
    export(folder)
    settings.EXPORT_KEY = "k" * 32

    with pytest.raises(CommandError, match="hashed by another key"):
        export(folder)


@pytest.mark.parametrize("manifest", [None, "{", "[]", '{"users": "hashed"}'])
def test_a_folder_that_does_not_say_how_it_names_users_is_refused(folder: Path, manifest: str | None) -> None:
    score("ann")
    export(folder)
    (folder / "_export.json").unlink()
    if manifest is not None:
        (folder / "_export.json").write_text(manifest)

    with pytest.raises(CommandError, match=r"_export\.json"):
        export(folder)


def test_two_exports_at_once_are_one(folder: Path) -> None:
    score("ann")
    export(folder)
    with (folder / ".export.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(CommandError, match="is at work"):
            export(folder)


def test_two_files_with_the_same_events_are_refused(folder: Path) -> None:
    score("ann", "ben")
    export(folder)
    path = next(folder.glob("day=*/*.parquet"))
    path.with_name(path.name.replace("000000000002", "000000000001")).write_bytes(path.read_bytes())

    with pytest.raises(CommandError, match="have the same events"):
        export(folder)


def test_a_newest_file_that_is_none_is_named(folder: Path) -> None:
    score("ann")
    export(folder)
    path = next(folder.glob("day=*/*.parquet"))
    path.write_bytes(b"PAR1")

    with pytest.raises(CommandError, match=f"{path} cannot be read"):
        export(folder)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(CommandError, match="/file/events: Not a directory"):
        export(tmp_path / "file" / "events")


LIMITED = """
import resource, sys
from django.core.management import execute_from_command_line
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
execute_from_command_line(sys.argv)
"""
WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-c", program, "export_events", "--to", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_a_disk_that_takes_no_more_is_named_and_leaves_nothing_behind(folder: Path) -> None:
    fill(5_000)

    ended = run(LIMITED, folder)

    assert ended.returncode == 1
    assert "CommandError" in ended.stderr
    assert "File too large" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert names(folder) == []


def test_without_pyarrow_it_says_how_to_get_it(folder: Path) -> None:
    ended = run(WITHOUT_PYARROW, folder)

    assert ended.returncode == 1
    assert ended.stderr == "CommandError: pyarrow is not installed: pip install -r requirements-analytics.txt\n"
