"""The clock of the log: it never goes back, never runs ahead, and ends periods between two events."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from scores.log import writer as module
from scores.log.head import log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.periods import mark_at, roll_over, roll_over_if_due
from scores.log.writer import writer
from scores.models import Action, Board, Leaderboard, Period, ScoreEvent, UserScore
from scores.projection.leaderboard import leaderboard
from scores.projection.tail import Tail
from tests.polling import until

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def add(user_id: str = "ann", action: str | None = None) -> Recorded | Exception:
    (outcome,) = writer.record([Change(Kind.INCREMENT, user_id, 1, action=action)])
    return outcome


def written_at() -> list[datetime]:
    return list(ScoreEvent.objects.order_by("seq").values_list("created_at", flat=True))


def put_clock_back(by: timedelta) -> datetime:
    """As if the clock had been ahead by so much until now: the log is written in the future."""
    ahead = datetime.now(UTC) + by
    Leaderboard.objects.update(at=ahead)
    return ahead


def test_events_are_written_at_the_time_of_the_log(board: None) -> None:
    before = datetime.now(UTC)
    add()
    add()

    first, second = written_at()
    assert before <= first < second <= datetime.now(UTC)
    assert Leaderboard.objects.get().at == UserScore.objects.get().updated_at == second
    assert log.head().mark == mark_at(second)


def test_a_clock_that_goes_back_is_not_followed(board: None) -> None:
    add()
    ahead = put_clock_back(DAY)

    for _ in range(5):
        add()

    _, *later = written_at()
    assert [ahead, *later] == sorted({ahead, *later})  # and no two alike: the mark of an event is its time
    assert later[-1] < ahead + 5 * timedelta(microseconds=101)


def test_cooldowns_and_caps_go_by_the_same_clock(board: None) -> None:
    Action.objects.create(name="win", points=5, cooldown_s=60)
    add()
    put_clock_back(DAY)
    assert isinstance(add(action="win"), Recorded)

    assert getattr(add(action="win"), "retry_after_s", None) == 60
    Leaderboard.objects.update(at=Leaderboard.objects.get().at + 60 * SECOND)  # type: ignore[operator]
    assert isinstance(add(action="win"), Recorded)


def test_a_database_that_runs_ahead_ends_no_period_early(
    board: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bound = datetime.now(UTC) - DAY  # this host's clock and a minute, if the database's is a day ahead
    monkeypatch.setattr(module, "latest", lambda: bound)
    with caplog.at_level(logging.INFO, "scores.log.writer"):
        add()
        add()
        first, second = written_at()
        assert first == bound
        assert bound < second < bound + SECOND

        monkeypatch.undo()
        add()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]  # each told once
    assert written_at()[-1] > bound + DAY - SECOND


# The rollover


def periods(*spans: tuple[datetime, datetime]) -> None:
    """A board with these periods, none of which has begun; and the log knows the next boundary."""
    rows = Board.objects.create(name="daily", fold="sum", period="daily")
    for number, (starts_at, ends_at) in enumerate(spans, start=1):
        Period.objects.create(board=rows, number=number, starts_at=starts_at, ends_at=ends_at)
    head = log.head()
    with connection.cursor() as cursor:
        roll_over(cursor, "leaderboard", seq=head.seq, at=datetime.now(UTC))


def stretches() -> list[tuple[int | None, int | None]]:
    return list(Period.objects.order_by("number").values_list("first_seq", "last_seq"))


def test_the_first_event_after_the_boundary_is_in_the_next_period(board: None) -> None:
    add()
    now = datetime.now(UTC)
    boundary = now + timedelta(hours=1)
    periods((now - SECOND, boundary), (boundary, boundary + DAY))
    add()
    assert stretches() == [(2, None), (None, None)]
    assert Leaderboard.objects.get().next_boundary == boundary

    Leaderboard.objects.update(at=boundary - timedelta(milliseconds=200))
    add()  # the last of the old period
    Leaderboard.objects.update(at=boundary)
    add()

    assert stretches() == [(2, 3), (4, None)]
    assert Leaderboard.objects.get().next_boundary == boundary + DAY


def test_periods_that_nobody_saw_are_empty_and_keep_their_boundaries(board: None) -> None:
    now = datetime.now(UTC)
    periods(*((now + n * DAY, now + (n + 1) * DAY) for n in range(4)))
    Leaderboard.objects.update(at=now + 2.5 * DAY)

    add()

    assert stretches() == [(1, 0), (1, 0), (1, None), (None, None)]


def test_the_rollover_is_kept_when_everything_in_its_batch_is_refused(board: None) -> None:
    now = datetime.now(UTC)
    periods((now - SECOND, now + DAY), (now + DAY, now + 2 * DAY))
    Leaderboard.objects.update(at=now + DAY)

    (refused,) = writer.record([Change(Kind.UNBLOCK, "ann")])

    assert isinstance(refused, Exception)
    assert stretches() == [(1, 0), (1, None)]
    add()
    assert stretches() == [(1, 0), (1, None)]


def test_a_period_ends_although_nobody_scores(board: None) -> None:
    add()
    now = datetime.now(UTC)
    boundary = now + timedelta(hours=1)
    periods((now - SECOND, boundary), (boundary, boundary + DAY))
    assert not roll_over_if_due(log)

    Leaderboard.objects.update(at=boundary)

    assert roll_over_if_due(log)
    assert stretches() == [(2, 1), (2, None)]
    assert not roll_over_if_due(log)


def test_the_tail_looks_for_that(board: None) -> None:
    now = datetime.now(UTC)
    periods((now - SECOND, now + DAY), (now + DAY, now + 2 * DAY))
    Leaderboard.objects.update(at=now + DAY)
    tail = Tail(leaderboard)
    tail.start()
    try:
        until(lambda: stretches() == [(1, 0), (1, None)])
    finally:
        tail.stop()


def test_two_at_once_roll_over_once(board: None) -> None:
    now = datetime.now(UTC)
    periods((now - SECOND, now + DAY), (now + DAY, now + 2 * DAY))
    Leaderboard.objects.update(at=now + DAY)
    before = Leaderboard.objects.get().calendar

    def roll() -> bool:
        try:
            return roll_over_if_due(log)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        rolled = list(pool.map(lambda _: roll(), range(8)))

    assert sorted(rolled) == [False] * 7 + [True]
    assert Leaderboard.objects.get().calendar == before + 1
