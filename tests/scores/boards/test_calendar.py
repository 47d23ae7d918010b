"""Periods tile time, whatever clocks do, and are cut when players would say."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scores.boards import calendar
from scores.boards.calendar import Span
from scores.models import Board

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # skipped midnights until 2018
    "America/St_Johns",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Africa/Casablanca",  # the clocks go back for Ramadan
    "Africa/Monrovia",  # offsets with seconds
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Asia/Manila",
    "Asia/Beirut",
    "Antarctica/Troll",
]


def board(period: str = "daily", **columns: object) -> Board:
    if period == "hours":
        columns = {"every_hours": 5, "anchor": datetime(2026, 1, 1, tzinfo=UTC)} | columns
    return Board(name="laps", period=period, **columns)


@st.composite
def schedules(draw: st.DrawFn) -> Board:
    return board(
        draw(st.sampled_from(["forever", "hourly", "daily", "weekly", "monthly", "hours"])),
        zone=draw(st.sampled_from(ZONES)),
        cut_time=draw(st.times().map(lambda at: at.replace(second=0, microsecond=0, fold=0))),
        cut_weekday=draw(st.integers(0, 6)),
    )


moments = st.one_of(
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(datetime(1965, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  gets one
    # Where a zone changes its date.
    st.datetimes(datetime(2011, 12, 27), datetime(2012, 1, 3), timezones=st.just(UTC)),  # noqa: DTZ001
    st.datetimes(datetime(1969, 9, 27), datetime(1969, 10, 4), timezones=st.just(UTC)),  # noqa: DTZ001
)


@settings(max_examples=300, deadline=None)
@given(schedules(), moments)
@example(board("weekly", zone="Pacific/Apia", cut_weekday=6), datetime.max.replace(tzinfo=UTC))
@example(board("monthly", zone="Pacific/Apia"), datetime.min.replace(tzinfo=UTC))
@example(board("hours"), datetime.min.replace(tzinfo=UTC))
def test_periods_tile_time(schedule: Board, at: datetime) -> None:
    first, *following = islice(calendar.spans(schedule, at), 5)

    assert first.starts_at is None or first.starts_at <= at
    assert first.ends_at is None or at < first.ends_at
    for span, after in pairwise([first, *following]):
        assert span.ends_at is not None
        assert span.ends_at == after.starts_at
        assert after.ends_at is None or after.starts_at < after.ends_at
        assert calendar.span_at(schedule, after.starts_at) == after
        assert calendar.span_at(schedule, after.starts_at - timedelta.resolution) == span
    if following:
        last = following[-1]
        assert last.starts_at is not None
        back = list(islice(calendar.spans_back(schedule, last.starts_at), len(following) + 1))
        assert back[::-1] == [first, *following]


@settings(max_examples=200, deadline=None)
@given(schedules(), st.dates())
@example(board(zone="Pacific/Apia"), date.min)
@example(board(zone="Pacific/Apia"), date.max)
def test_dates_name_periods_in_their_order(schedule: Board, day: date) -> None:
    starts = [calendar.start_of(schedule, day)]
    if day < date.max:
        starts.append(calendar.start_of(schedule, day + timedelta(days=1)))

    assert starts == sorted(starts)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]  # a datetime's first six parameters


@pytest.mark.parametrize(
    ("schedule", "at", "span"),
    [
        (board("forever"), utc(2026, 11, 26), Span(None, None)),
        (board("hourly", zone="Asia/Kathmandu"), utc(2026, 11, 26, 9, 30), Span(utc(2026, 11, 26, 9), utc(2026, 11, 26, 10))),
        (board(), utc(2026, 11, 26, 9, 30), Span(utc(2026, 11, 26), utc(2026, 11, 27))),
        # 25 hours, and 23.
        (board(zone="Europe/Berlin"), utc(2026, 10, 25, 12), Span(utc(2026, 10, 24, 22), utc(2026, 10, 25, 23))),
        (board(zone="Europe/Berlin"), utc(2026, 3, 29, 12), Span(utc(2026, 3, 28, 23), utc(2026, 3, 29, 22))),
        # 02:30 is skipped: the day is cut when the clocks change, at 02:00. In autumn 02:30 is shown twice.
        (board(zone="Europe/Berlin", cut_time=time(2, 30)), utc(2026, 3, 29, 12), Span(utc(2026, 3, 29, 1), utc(2026, 3, 30, 0, 30))),
        (board(zone="Europe/Berlin", cut_time=time(2, 30)), utc(2026, 10, 25, 0, 45), Span(utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30))),
        # Half an hour.
        (board(zone="Australia/Lord_Howe"), utc(2026, 4, 4, 20), Span(utc(2026, 4, 4, 13), utc(2026, 4, 5, 13, 30))),
        # Midnight itself is skipped.
        (board(zone="America/Sao_Paulo"), utc(2018, 11, 4, 12), Span(utc(2018, 11, 4, 3), utc(2018, 11, 5, 2))),
        # 30 December 2011 does not exist.
        (board(zone="Pacific/Apia"), utc(2011, 12, 30, 9), Span(utc(2011, 12, 29, 10), utc(2011, 12, 30, 10))),
        (board(zone="Pacific/Apia"), utc(2011, 12, 30, 10), Span(utc(2011, 12, 30, 10), utc(2011, 12, 31, 10))),
        # Mondays, and the first of a month, where days are cut at six.
        (board("weekly", cut_time=time(6)), utc(2026, 11, 23, 5), Span(utc(2026, 11, 16, 6), utc(2026, 11, 23, 6))),
        (board("weekly", cut_weekday=4), utc(2026, 11, 26), Span(utc(2026, 11, 20), utc(2026, 11, 27))),
        (board("monthly", cut_time=time(6)), utc(2026, 12, 1, 5, 59), Span(utc(2026, 11, 1, 6), utc(2026, 12, 1, 6))),
        (board("hours", every_hours=36), utc(2025, 12, 31, 12), Span(utc(2025, 12, 30, 12), utc(2026, 1, 1))),
    ],
)  # fmt: skip
def test_a_moment_is_in_the_period_that_players_expect(schedule: Board, at: datetime, span: Span) -> None:
    assert calendar.span_at(schedule, at) == span


def test_a_season_follows_no_rule() -> None:
    with pytest.raises(ValueError, match="explicit"):
        calendar.span_at(board("season"), utc(2026, 11, 26))


@pytest.mark.parametrize(
    ("schedule", "day", "starts_at"),
    [
        (board(zone="Europe/Berlin", cut_time=time(18)), date(2026, 11, 26), utc(2026, 11, 26, 17)),
        (board("weekly", cut_weekday=0, cut_time=time(6)), date(2026, 11, 23), utc(2026, 11, 23, 6)),
        (board("weekly", cut_weekday=0, cut_time=time(6)), date(2026, 11, 29), utc(2026, 11, 23, 6)),
        (board("monthly", zone="Europe/Berlin"), date(2026, 11, 26), utc(2026, 10, 31, 23)),
        (board("hourly", zone="Europe/Berlin"), date(2026, 11, 26), utc(2026, 11, 25, 23)),
        (board(zone="Pacific/Apia"), date(2011, 12, 30), utc(2011, 12, 30, 10)),
    ],
)
def test_a_date_names_the_period_that_is_under_way_once_it_is_cut(
    schedule: Board, day: date, starts_at: datetime
) -> None:
    assert calendar.span_at(schedule, calendar.start_of(schedule, day)).starts_at == starts_at


@pytest.mark.parametrize("zone", ZONES)
def test_each_day_of_a_zone_is_cut_at_its_first_moment_after_the_cut(zone: str) -> None:
    schedule = board(zone=zone, cut_time=time(0, 15))

    for span in islice(calendar.spans(schedule, utc(2010, 6, 1)), 700):
        assert span.starts_at is not None
        local = span.starts_at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        earlier = (span.starts_at - timedelta.resolution).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        cut = datetime.combine(local.date(), time(0, 15))
        assert earlier < cut <= local or local.date() > earlier.date()
