"""`manage.py boards`: a file says which boards there are."""

from __future__ import annotations

import tomllib
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db.backends.base.base import BaseDatabaseWrapper

from scores.boards import definitions
from scores.log.head import log
from scores.models import Board, Leaderboard, Period

FILE = """
[boards.weekly]
title = "This week \U0001f3c1 \\"best\\""
fold = "sum"
period = "weekly"
zone = "Europe/Berlin"
cutTime = 06:00:00
cutWeekday = "monday"
keep = 8

[boards.laps]
fold = "best"
order = "lower"
stream = true
least = 1000

[boards.cup]
fold = "sum"
period = "season"
seasons = [
    { startsAt = 2026-01-01T00:00:00Z, endsAt = 2026-02-01T00:00:00+01:00 },
    { startsAt = "2996-03-01T00:00:00Z", endsAt = "2996-04-01T00:00:00Z" },
]

[boards.rounds]
fold = "latest"
period = "hours"
everyHours = 5
anchor = 2026-01-01T00:30:00+01:00
archived = true
"""


@pytest.fixture
def file(tmp_path: Path, board: None) -> Path:
    path = tmp_path / "boards.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def boards(*arguments: object) -> str:
    out = StringIO()
    call_command("boards", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_a_file_makes_boards_and_a_second_time_changes_nothing(file: Path) -> None:
    first = boards("apply", file)
    periods = list(Period.objects.values())
    second = boards("apply", file)

    assert first.splitlines() == ["created weekly", "created laps", "created cup", "created rounds"]
    assert second.splitlines() == ["unchanged weekly", "unchanged laps", "unchanged cup", "unchanged rounds"]
    assert list(Period.objects.values()) == periods


def test_what_is_exported_makes_the_same_boards(file: Path) -> None:
    boards("apply", file)
    exported = boards("export")
    ahead = list(Period.objects.filter(board__name="cup").values_list("number", "starts_at", "ends_at"))
    for name in Board.objects.values_list("name", flat=True):
        definitions.delete(name)

    file.write_text(exported, encoding="utf-8")
    boards("apply", file)

    assert boards("export") == exported
    assert tomllib.loads(exported)["boards"].keys() == {"cup", "laps", "rounds", "weekly"}
    assert list(Period.objects.filter(board__name="cup").values_list("number", "starts_at", "ends_at")) == ahead


def test_what_is_not_in_the_file_is_left_or_its_default(file: Path) -> None:
    boards("apply", file)
    file.write_text('[boards.weekly]\nfold = "sum"\nperiod = "weekly"\nzone = "Europe/Berlin"\ncutTime = "06:00"\n')

    told = boards("apply", file).splitlines()

    assert told[0] == "changed weekly"
    assert told[1:] == [f"left {name}, which is not in the file" for name in ("cup", "laps", "rounds")]
    weekly = Board.objects.get(name="weekly")
    assert (weekly.title, weekly.keep) == ("", None)


def test_an_archived_board_stays_so_if_the_file_says_nothing(file: Path) -> None:
    boards("apply", file)

    file.write_text(FILE.replace("archived = true\n", ""), encoding="utf-8")

    assert "unchanged rounds" in boards("apply", file)


def test_if_something_cannot_change_nothing_of_the_file_is_applied(file: Path) -> None:
    boards("apply", file)
    calendar = Leaderboard.objects.get().calendar
    changed = (
        FILE.replace('order = "lower"', 'order = "higher"').replace("keep = 8", "keep = 9").replace("Berlin", "Rome")
    )
    file.write_text(f'{changed}\n[boards.more]\nfold = "sum"\n[boards."no name"]\nfold = "max"\n', encoding="utf-8")

    with pytest.raises(CommandError) as caught:
        boards("apply", file)

    told = str(caught.value).splitlines()
    assert told[0] == "weekly: zone cannot be changed any more."
    assert told[1] == "laps: order cannot be changed any more."
    assert [line.partition(": ")[2][:6] for line in told[2:4]] == ["name: ", "fold: "]
    assert told[4:] == ["Nothing was applied."]
    assert Board.objects.get(name="weekly").keep == 8
    assert not Board.objects.filter(name="more").exists()
    assert Leaderboard.objects.get().calendar == calendar


def test_a_table_has_the_name_of_its_board(file: Path) -> None:
    file.write_text('[boards.alpha]\nname = "beta"\nfold = "max"\n[boards.gamma]\nname = "gamma"\nfold = "sum"\n')

    with pytest.raises(CommandError) as caught:
        boards("apply", file)

    told = str(caught.value).splitlines()
    assert told[0] == "alpha: name: The table is named alpha."
    assert told[1].startswith("alpha: fold: ")
    assert told[2:] == ["Nothing was applied."]
    file.write_text(file.read_text().replace("beta", "alpha").replace("max", "sum"))
    assert boards("apply", file).splitlines() == ["created alpha", "created gamma"]
    assert boards("apply", file).splitlines() == ["unchanged alpha", "unchanged gamma"]


def test_the_log_names_what_was_applied_only(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "scores.boards.definitions")
    bad = f'{FILE}\n[boards.bad]\nfold = "max"\n'
    file.write_text(bad, encoding="utf-8")
    with pytest.raises(CommandError):
        boards("apply", file)
    assert caplog.messages == []

    file.write_text(FILE, encoding="utf-8")
    boards("apply", file)
    file.write_text(FILE.replace("keep = 8", "keep = 9"), encoding="utf-8")
    boards("apply", file)

    assert len(caplog.messages) == 5
    assert caplog.messages[-1] == "Board weekly was changed by manage.py boards"


@pytest.mark.parametrize("content", ["boards = 7", "[board.x]", "[boards]\nx = 7", "[", "\ud800"])
def test_a_file_that_says_something_else_is_refused(file: Path, content: str) -> None:
    file.write_bytes(content.encode("utf-8", "surrogatepass"))

    with pytest.raises(CommandError):
        boards("apply", file)


def test_while_somebody_holds_the_head_nothing_is_applied(file: Path, rival: BaseDatabaseWrapper) -> None:
    log.start()
    rival.set_autocommit(False)
    with rival.cursor() as cursor:
        cursor.execute("SELECT FROM leaderboards FOR UPDATE")

    with pytest.raises(CommandError, match=r"Nothing was done: .*lock timeout"):
        boards("apply", file)

    rival.rollback()
    assert not Board.objects.exists()


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        boards("apply", tmp_path / "none.toml")
