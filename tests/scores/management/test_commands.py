"""`manage.py verify_leaderboard` and `manage.py rebuild_leaderboard`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from redis import Redis

from scores import services
from scores.board import LEADERBOARD
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.management import progress
from scores.models import ScoreEvent, UserScore
from scores.projection.leaderboard import leaderboard
from scores.signals import leaderboard_changed
from tests.conftest import database_url
from tools.servers import ROOT

NOWHERE = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.fixture(autouse=True)
def _players(copy: Redis) -> None:
    for user_id, total in (("ann", 30), ("ben", 20)):
        services.correct(user_id=user_id, total=total, actor="test", reason="start")


def manage(
    name: str, env: dict[str, str] | None = None, *, stderr: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """A process of its own, on the stores of the tests unless `env` says otherwise."""
    env = os.environ | {"DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL} | (env or {})
    command = [sys.executable, "manage.py", name]
    return subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60, check=False
    )


def call(name: str) -> str:
    """What the command tells, in this process."""
    stdout = StringIO()
    call_command(name, stdout=stdout, stderr=StringIO())
    return stdout.getvalue()


def test_a_comparison_that_finds_nothing_ends_with_0() -> None:
    ended = manage("verify_leaderboard")

    assert ended.returncode == 0
    assert ended.stdout == "Compared 2 users at event 2: 0 differ\nThe copy is equal to the tables\n"
    assert ended.stderr == "Comparing the copy with the tables …\n"


def test_a_comparison_that_finds_differences_tells_them_and_ends_with_1(copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {"ann": 31, "dan": 5})
    copy.zrem(LEADERBOARD.key, "ben")

    ended = manage("verify_leaderboard")

    assert ended.returncode == 1
    assert ended.stdout.splitlines() == [
        "Compared 3 users at event 2: 3 differ",
        "'ann': 30 in the table, 31 in Redis",
        "'ben': 20 in the table, not in Redis",
        "'dan': not on the board, 5 in Redis",
    ]
    assert "CommandError: The copy is not equal to the tables." in ended.stderr


@pytest.mark.parametrize("store", NOWHERE)
def test_a_comparison_without_both_stores_ends_with_2(store: str) -> None:
    ended = manage("verify_leaderboard", {store: NOWHERE[store]})

    assert ended.returncode == 2
    assert "CommandError: A store does not answer: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_copy_is_told(copy: Redis) -> None:
    copy.flushdb()
    stdout = StringIO()

    with pytest.raises(CommandError) as error:
        call_command("verify_leaderboard", stdout=stdout, stderr=StringIO())

    assert error.value.returncode == 1
    assert stdout.getvalue() == (
        "Compared 0 users at event 2: 0 differ\n"
        f"The copy is missing: the log is at event 2 of {log.head().origin} with 2 members\n"
    )


def test_totals_that_were_changed_by_hand_are_told(copy: Redis) -> None:
    for user_id in ("cid", "dan", "eve"):
        writer.record([Change(Kind.INCREMENT, user_id, 5), Change(Kind.INCREMENT, user_id, 3)])
    UserScore.objects.filter(user_id="ann").update(score=31)
    UserScore.objects.filter(user_id__in=["ben", "cid"]).delete()
    writer.record([Change(Kind.INCREMENT, "cid", 1)])  # begins again, and has an event that agrees
    UserScore.objects.filter(user_id="dan").update(score=9)
    services.correct(user_id="dan", total=7, actor="test", reason="as it should be")
    services.block(user_id="eve", actor="test", reason="speed hack")
    log.mend_head()
    leaderboard.rebuild()
    stdout = StringIO()

    with pytest.raises(CommandError, match="by hand") as error:
        call_command("verify_leaderboard", stdout=stdout, stderr=StringIO())

    assert error.value.returncode == 1
    assert stdout.getvalue().splitlines()[1:] == [
        "3 totals are not what their events add up to",
        "'ann': 30 by the events, 31 in the table",
        "'ben': 20 by the events, not in the table",
        "'cid': 9 by the events, 1 in the table",
    ]


def test_services_and_old_events_that_are_archived_are_no_fault(copy: Redis) -> None:
    services.block(user_id="service:arena", actor="test", reason="leaked")
    writer.record([Change(Kind.INCREMENT, "cid", 5), Change(Kind.INCREMENT, "cid", 3)])
    ScoreEvent.objects.filter(seq__lte=4).delete()

    assert "equal" in call("verify_leaderboard")


def test_of_many_differences_the_first_hundred_are_told(copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {f"user{number:03}": 1 for number in range(120)})
    stdout = StringIO()

    with pytest.raises(CommandError, match="not equal"):
        call_command("verify_leaderboard", stdout=stdout, stderr=StringIO())

    lines = stdout.getvalue().splitlines()
    assert lines[0] == "Compared 122 users at event 2: 120 differ"
    assert [line for line in lines if "not on the board" in line][-1].startswith("'user099'")
    assert "… and 20 more" in lines


def test_what_could_move_the_cursor_is_printed_as_a_literal(copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {b"\x1b[2J\xff": 1})
    stdout = StringIO()

    with pytest.raises(CommandError):
        call_command("verify_leaderboard", stdout=stdout, stderr=StringIO())

    assert r"'\x1b[2J\udcff': not on the board, 1 in Redis" in stdout.getvalue()


def test_a_rebuilt_copy_is_equal(copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {"ann": 31, "dan": 5})

    ended = manage("rebuild_leaderboard")

    assert ended.returncode == 0
    assert re.fullmatch(r"Rebuilt 2 members at event 2 in \d+\.\d\d s\n", ended.stdout)
    assert ended.stderr == "Rebuilding the copy …\n"
    assert copy.zrange(LEADERBOARD.key, 0, -1, withscores=True) == [(b"ben", 20), (b"ann", 30)]
    assert "equal" in call("verify_leaderboard")


@pytest.mark.parametrize("store", NOWHERE)
def test_a_rebuild_without_both_stores_ends_with_1(store: str) -> None:
    ended = manage("rebuild_leaderboard", {store: NOWHERE[store]})

    assert ended.returncode == 1
    assert "CommandError: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_rebuild_is_announced_as_every_change_is() -> None:
    heard: list[dict[str, Any]] = []

    def hear(**fact: Any) -> None:
        heard.append(fact)

    leaderboard_changed.connect(hear)
    call("rebuild_leaderboard")
    leaderboard_changed.disconnect(hear)

    assert [(fact["origin"], fact["seq"]) for fact in heard] == [(log.head().origin, 2)]


def test_a_rebuild_replaces_a_copy_that_is_whole(copy: Redis) -> None:
    copy.zadd(LEADERBOARD.key, {"ann": 31})  # which no look at the state would notice

    call("rebuild_leaderboard")

    assert leaderboard.totals_of(["ann"]).scores == [30]


def test_a_long_one_tells_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0)
    stderr = StringIO()

    call_command("rebuild_leaderboard", stdout=StringIO(), stderr=stderr)

    assert stderr.getvalue() == "Rebuilding the copy …\nRebuilding the copy … 2 of 2\n"


def test_a_terminal_gets_a_bar() -> None:
    ours, theirs = pty.openpty()

    ended = manage("rebuild_leaderboard", {"TERM": "xterm"}, stderr=theirs)
    os.close(theirs)

    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert ended.returncode == 0
    assert "Rebuilding the copy" in shown
    assert "━" in shown
    assert "2/2" in shown
