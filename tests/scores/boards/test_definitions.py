"""What a board may be, and that its periods are stretches of the log with true boundaries."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from scores import services
from scores.boards import definitions
from scores.boards.documents import document, parse
from scores.exceptions import (
    DATABASE_AWAY,
    BoardArchived,
    BoardExists,
    BoardFixed,
    BoardInvalid,
    BoardsTooMany,
    BoardUnknown,
)
from scores.log.head import log
from scores.log.periods import latest
from scores.models import Board, BoardStanding, Leaderboard, Period, ScoreEvent
from tests.scores.conftest import be_ahead

HOUR = timedelta(hours=1)
Row = tuple[int, datetime | None, datetime | None, int | None, int | None]


# What a definition may say


def mistakes_in(**fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(BoardInvalid) as caught:
        parse({"name": "laps", "fold": "sum"} | fields)
    return sorted((mistake.field, mistake.code) for mistake in caught.value.mistakes)


def test_all_mistakes_are_told_at_once() -> None:
    assert mistakes_in(
        name="Laps!", fold="max", zone="Mars/Olympus", color="red", period="daily", keep="3", isPublic=1
    ) == [
        ("color", "unknown_field"),
        ("fold", "not_a_choice"),
        ("isPublic", "wrong_type"),
        ("keep", "wrong_type"),
        ("name", "invalid"),
        ("zone", "unknown_zone"),
    ]


@pytest.mark.parametrize(
    ("fields", "mistakes"),
    [
        ({"name": "leaderboard"}, [("name", "reserved")]),
        ({"name": None, "fold": None}, [("fold", "required"), ("name", "required")]),
        ({"title": "x" * 121}, [("title", "too_long")]),
        ({"title": "a\0b"}, [("title", "invalid")]),
        ({"\ud800": 1}, [("?", "unknown_field")]),
        ({"zone": "localtime"}, [("zone", "unknown_zone")]),
        ({"zone": "Factory"}, [("zone", "unknown_zone")]),
        ({"period": "hours"}, [("anchor", "required"), ("everyHours", "required")]),
        ({"period": "hours", "everyHours": 0, "anchor": "2026-01-01"}, [("anchor", "invalid"), ("everyHours", "out_of_range")]),
        ({"cutTime": "06:00"}, [("cutTime", "not_with_period")]),
        ({"period": "daily", "cutTime": "24:00"}, [("cutTime", "invalid")]),
        ({"period": "daily", "cutWeekday": "monday"}, [("cutWeekday", "not_with_period")]),
        ({"period": "weekly", "cutWeekday": "Monday"}, [("cutWeekday", "not_a_choice")]),
        ({"keep": 3}, [("keep", "not_with_period")]),
        ({"period": "daily", "keep": -1}, [("keep", "out_of_range")]),
        ({"period": "season"}, [("seasons", "required")]),
        ({"period": "season", "seasons": []}, [("seasons", "out_of_range")]),
        ({"period": "season", "seasons": [{"startsAt": "2026-01-01T00:00Z"}]}, [("seasons.1", "wrong_type")]),
        ({"period": "season", "seasons": [{"startsAt": "2026-01-01T00:00Z", "endsAt": "2025-01-01T00:00Z"}]}, [("seasons.1", "ends_before_start")]),
        ({"period": "season", "seasons": [{"startsAt": "2026-01-01T00:00Z", "endsAt": "2026-03-01T00:00Z"}, {"startsAt": "2026-02-01T00:00Z", "endsAt": "2026-04-01T00:00Z"}]}, [("seasons.2", "overlapping")]),
        ({"stream": "Others"}, [("stream", "invalid")]),
        ({"stream": "leaderboard"}, [("stream", "invalid")]),
        ({"stream": "others", "least": 1}, [("least", "needs_stream")]),
        ({"stream": True, "action": "jump"}, [("action", "not_with_stream")]),
        ({"action": "no blanks"}, [("action", "invalid")]),
        ({"least": 1, "submitters": "services"}, [("least", "needs_stream"), ("submitters", "needs_stream")]),
        ({"stream": True, "fold": "best", "least": 2**53}, [("least", "out_of_range")]),
        ({"stream": True, "fold": "best", "least": 5, "most": 4}, [("most", "below_least")]),
        ({"stream": True, "fold": "sum", "least": 0}, [("least", "out_of_range")]),
        ({"stream": True, "fold": "sum", "most": 1_000_001}, [("most", "out_of_range")]),
        ({"stream": True, "fold": "best", "least": 1.0}, [("least", "wrong_type")]),
        ({"stream": True, "fold": "best", "least": True}, [("least", "wrong_type")]),
    ],
    ids=str,
)  # fmt: skip
def test_a_mistake_has_a_field_and_a_code(fields: dict[str, Any], mistakes: list[tuple[str, str]]) -> None:
    assert mistakes_in(**fields) == mistakes


@pytest.mark.parametrize("values", [None, [], "laps", 7])
def test_only_an_object_is_a_definition(values: object) -> None:
    with pytest.raises(BoardInvalid):
        parse(values)


@pytest.mark.parametrize(
    "fields",
    [
        {"fold": "sum"},
        {"fold": "best", "stream": "laps", "least": -5, "most": 2**53 - 1, "order": "lower", "ties": "id"},
        {"fold": "latest", "period": "weekly", "cutTime": "06:30", "cutWeekday": "friday", "zone": "Asia/Kathmandu"},
        {"fold": "sum", "period": "hours", "everyHours": 5, "anchor": "2026-01-01T01:00:00+01:00", "keep": 0},
        {"fold": "sum", "period": "season", "seasons": [{"startsAt": "2026-01-01T00:00Z", "endsAt": "2026-02-01T00:00Z"}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_definition_is_read_back_from_its_document(fields: dict[str, Any]) -> None:
    definition = parse({"name": "laps", "title": "Laps 🏁"} | fields)

    assert parse(document(definition)) == definition


# Periods


def write_events(*hours_ago: float) -> datetime:
    """Events of the past, as many hours before a moment that is returned."""
    now = datetime.now(UTC)
    for _ in hours_ago:
        services.correct(user_id="ann", total=1, actor="test", reason="an event")
    for seq, ago in enumerate(hours_ago, 1):
        ScoreEvent.objects.filter(seq=seq).update(created_at=now - ago * HOUR)
    return now


def create(name: str = "laps", **fields: Any) -> Board:
    definition = parse({"name": name, "fold": "sum"} | fields)
    try:
        return definitions.create(definition)
    except DATABASE_AWAY:  # a slow machine held the lock for longer than a session may, and nothing was done
        connection.close()
        return definitions.create(definition)


def rows(board: Board) -> list[Row]:
    columns = ("number", "starts_at", "ends_at", "first_seq", "last_seq")
    return list(Period.objects.filter(board=board).order_by("number").values_list(*columns))


def every_hours(hours: int, anchor: datetime, **fields: Any) -> dict[str, Any]:
    return {"period": "hours", "everyHours": hours, "anchor": anchor.isoformat(), **fields}


def head() -> Leaderboard:
    return Leaderboard.objects.get()


@pytest.fixture
def past(board: None) -> datetime:
    """The time of a log with events 50, 31, 30.5, 10, and 1 hours ago."""
    return write_events(50, 31, 30.5, 10, 1)


def test_periods_of_the_past_come_from_the_log(past: datetime) -> None:
    made = rows(create(**every_hours(10, past - 5 * HOUR)))

    assert [(number, first, last) for number, _, _, first, last in made[:7]] == [
        (1, 1, 1),  # 55 to 45 hours ago
        (2, 2, 1),
        (3, 2, 3),
        (4, 4, 3),
        (5, 4, 4),
        (6, 5, None),  # since 5 hours ago
        (7, None, None),
    ]
    assert made[0][1] == past - 55 * HOUR
    assert all(before[2] == after[1] for before, after in pairwise(made))


def test_an_event_at_a_boundary_is_in_the_period_that_begins(past: datetime) -> None:
    made = rows(create(**every_hours(10, past - 10 * HOUR)))

    assert [(first, last) for *_, first, last in made[:6]] == [(1, 1), (2, 3), (4, 3), (4, 3), (4, 5), (6, None)]


def test_a_board_that_keeps_few_periods_begins_with_the_newest(past: datetime) -> None:
    made = rows(create(**every_hours(10, past - 5 * HOUR, keep=2)))

    assert [(number, first, last) for number, _, _, first, last in made[:4]] == [
        (1, 4, 3),
        (2, 4, 4),
        (3, 5, None),
        (4, None, None),
    ]


def test_a_board_for_ever_has_one_period(past: datetime) -> None:
    assert rows(create()) == [(1, None, None, 1, None)]


def test_seasons_are_numbered_as_given(past: datetime) -> None:
    def season(start: float, end: float) -> dict[str, str]:
        return {"startsAt": (past - start * HOUR).isoformat(), "endsAt": (past - end * HOUR).isoformat()}

    board = create(period="season", seasons=[season(90, 80), season(40, 20), season(15, -5), season(-10, -20)])

    assert [(number, first, last) for number, _, _, first, last in rows(board)] == [
        (1, 1, 0),
        (2, 2, 3),
        (3, 4, None),
        (4, None, None),
    ]
    assert head().next_boundary == past + 5 * HOUR


def test_without_events_the_present_period_is_the_first(board: None) -> None:
    now = be_ahead()

    made = rows(create(period="hourly"))

    assert made[0][3:] == (1, None)
    assert made[0][1] <= now < made[0][2]  # type: ignore[operator]  # hours have both
    assert {(first, last) for *_, first, last in made[1:]} == {(None, None)}


def test_rows_are_made_ahead(board: None) -> None:
    hourly, monthly = rows(create("hours", period="hourly")), rows(create("months", period="monthly"))

    now = head().at
    assert now is not None
    assert hourly[-1][2] >= now + definitions.LEAST_TIME_AHEAD  # type: ignore[operator]  # hours have an end
    assert len(monthly) > definitions.LEAST_AHEAD


def test_a_new_board_raises_the_calendar_and_sets_the_boundary(board: None) -> None:
    log.head()
    before = head().calendar

    made = rows(create(period="daily"))

    assert head().calendar > before
    assert head().next_boundary == made[0][2]


def test_an_event_from_the_future_of_the_clock_is_in_the_present_period(board: None) -> None:
    now = write_events(-3)

    made = rows(create(**every_hours(1, now - HOUR / 2)))

    assert [(first, last) for *_, first, last in made if first is not None]


OUTSIDE_SQL = """
    SELECT count(*), count(*) FILTER (WHERE e.created_at < p.starts_at OR e.created_at >= p.ends_at)
    FROM periods p JOIN score_events e ON e.seq BETWEEN p.first_seq AND coalesce(p.last_seq, %s) WHERE p.board_id = %s
"""


@pytest.mark.parametrize("period", ["hourly", "daily", "weekly", "monthly", "hours"])
def test_each_event_is_in_the_one_period_of_its_time(board: None, period: str) -> None:
    rng = random.Random(period)
    now = datetime.now(UTC)
    times = sorted(now - rng.choice([1, 30, 1000]) * rng.random() * HOUR for _ in range(400))
    ScoreEvent.objects.bulk_create(
        ScoreEvent(seq=seq, user_id="ann", kind="increment", points=1, total=seq, created_at=at)
        for seq, at in enumerate(times, 1)
    )
    fields = every_hours(7, now) if period == "hours" else {"period": period, "zone": "Australia/Lord_Howe"}

    each = create(**fields)

    with connection.cursor() as cursor:
        cursor.execute(OUTSIDE_SQL, [len(times), each.id])
        assert cursor.fetchone() == (len(times), 0)


# Rows ahead


def forget_ahead(board: Board, *, until: datetime) -> None:
    Period.objects.filter(board=board, starts_at__gt=until).delete()


def test_periods_that_were_missed_get_their_rows(past: datetime) -> None:
    board = create(**every_hours(10, past - 5 * HOUR))
    expected = rows(board)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM periods WHERE board_id = %s AND number > 2", [board.id])
        cursor.execute("UPDATE leaderboards SET at = %s", [past - 36 * HOUR])

    assert definitions.extend(log) == 1

    assert rows(board) == expected
    assert head().next_boundary == expected[5][2]


def test_nothing_to_do_takes_no_lock(board: None, rival: BaseDatabaseWrapper) -> None:
    create(period="daily")
    rival.set_autocommit(False)
    with rival.cursor() as cursor:
        cursor.execute("SELECT FROM leaderboards FOR UPDATE")

    assert definitions.extend(log) == 0  # or it would fail after the wait for the lock

    rival.rollback()


def test_two_processes_make_the_rows_once(board: None) -> None:
    boards = [create(f"b{n}", period="hourly") for n in range(3)]
    for each in boards:
        forget_ahead(each, until=latest())
    made: list[int] = []

    def extend() -> None:
        try:
            made.append(definitions.extend(log))
        finally:
            connection.close()

    threads = [threading.Thread(target=extend) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(made) == 3
    for each in boards:
        assert [number for number, *_ in rows(each)] == list(range(1, len(rows(each)) + 1))
        assert len(rows(each)) > 48


def test_an_archived_board_gets_no_rows(board: None) -> None:
    each = create(period="hourly")
    definitions.archive("laps")

    assert definitions.extend(log) == 0
    assert len(rows(each)) == 1


# Its life


def test_a_name_is_taken_once(board: None) -> None:
    create()

    with pytest.raises(BoardExists):
        create()


def test_there_are_at_most_so_many_boards(board: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_BOARDS", 1)
    create()

    with pytest.raises(BoardsTooMany):
        create("more")


@pytest.fixture
def laps(past: datetime) -> Board:
    return create(stream=True, fold="best", period="daily", keep=5)


def test_what_may_change_changes(laps: Board) -> None:
    before = head().calendar

    changes = {"title": "Laps", "least": 1, "keep": None, "isPublic": False, "order": "higher"}
    assert definitions.change("laps", changes).is_different
    assert head().calendar > before
    assert not definitions.change("laps", {"title": "Laps"}).is_different

    laps.refresh_from_db()
    assert (laps.title, laps.least, laps.keep, laps.is_public) == ("Laps", 1, None, False)


def test_what_is_fixed_is_refused_by_name(laps: Board) -> None:
    with pytest.raises(BoardFixed) as caught:
        definitions.change("laps", {"order": "lower", "zone": "Europe/Berlin", "title": "Laps", "name": "rounds"})

    assert sorted(caught.value.fields) == ["name", "order", "zone"]
    laps.refresh_from_db()
    assert laps.title == ""


def test_later_seasons_change_and_begun_ones_do_not(past: datetime) -> None:
    def season(start: float, end: float) -> dict[str, str]:
        return {"startsAt": (past + start * HOUR).isoformat(), "endsAt": (past + end * HOUR).isoformat()}

    board = create(period="season", seasons=[season(-40, 5), season(10, 20)])

    assert definitions.change("laps", {"seasons": [season(-40, 5), season(6, 9), season(9, 30)]}).is_different
    with pytest.raises(BoardFixed, match="seasons"):
        definitions.change("laps", {"seasons": [season(-40, 6), season(6, 9)]})

    assert [(n, start) for n, start, *_ in rows(board)][1:] == [(2, past + 6 * HOUR), (3, past + 9 * HOUR)]


@pytest.mark.parametrize("period", ["forever", "daily"])
def test_an_archived_board_ends_with_the_newest_event(past: datetime, period: str) -> None:
    each = create(period=period)

    assert definitions.archive("laps").is_different
    assert not definitions.archive("laps").is_different
    services.correct(user_id="ann", total=2, actor="test", reason="later")

    assert rows(each)[-1][4] == 5
    each.refresh_from_db()
    assert each.archived_at is not None
    assert head().next_boundary is None
    with pytest.raises(BoardFixed, match="archived"):
        definitions.change("laps", {"archived": False})
    assert definitions.change("laps", {"title": "Old laps"}).is_different


def test_a_board_that_was_archived_before_its_first_season_can_be_changed(board: None) -> None:
    seasons = [{"startsAt": "2999-01-01T00:00:00Z", "endsAt": "2999-02-01T00:00:00Z"}]
    create("cup", period="season", seasons=seasons)
    definitions.archive("cup")

    definitions.change("cup", {"title": "Never played"})

    assert Board.objects.get().title == "Never played"


def test_the_rules_of_an_archived_board_are_fixed(laps: Board) -> None:
    definitions.archive("laps")

    with pytest.raises(BoardArchived):
        definitions.change("laps", {"least": 5})


def test_a_deleted_board_is_gone_with_its_standings(laps: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "STANDINGS_PER_TRANSACTION", 2)
    other = create("other")
    BoardStanding.objects.bulk_create(
        BoardStanding(board=each, period=1, user_id=f"u{n}", key=1, tie=0, reached_seq=1)
        for each in (laps, other)
        for n in range(5)
    )

    definitions.delete("laps")

    assert list(Board.objects.values_list("name", flat=True)) == ["other"]
    assert set(BoardStanding.objects.values_list("board_id", flat=True)) == {other.id}
    assert set(Period.objects.values_list("board_id", flat=True)) == {other.id}
    assert head().next_boundary is None


@pytest.mark.parametrize("name", ["laps", "a\0b", "Ü", ""])
def test_a_board_that_does_not_exist_is_unknown(board: None, name: str) -> None:
    with pytest.raises(BoardUnknown):
        definitions.change(name, {"title": "x"})
    with pytest.raises(BoardUnknown):
        definitions.delete(name)


def test_the_default_board_is_fixed(board: None) -> None:
    with pytest.raises(BoardFixed):
        definitions.change("leaderboard", {"title": "x"})
