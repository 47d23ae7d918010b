"""Which period a moment is in: the rules by which boards start anew, as instants. Knows no store.

Days, weeks and months are cut at a local time of day. A local date and time is cut at the first instant at which the
clocks there show it or more: so one that the clocks skip is cut when they do, and one that they show twice at the first.
That is monotone in the local time, whatever clocks do, and so periods tile time: each ends where the next one starts.
A day has 23 to 25 hours where clocks change, and a day that a zone skips has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

# Beyond these, local times and steps would leave what a datetime can hold. The period of the first of these moments has
# no start, and that of the last one no end.
FIRST = datetime(2, 1, 1, tzinfo=UTC)
LAST = datetime(9998, 12, 31, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
MONDAY = date(1, 1, 1).toordinal()  # and thus all ordinals that leave 1 when they are divided by 7


class Schedule(Protocol):
    """When a board starts anew: what its columns of the same names say."""

    @property
    def period(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def cut_time(self) -> time: ...
    @property
    def cut_weekday(self) -> int: ...
    @property
    def every_hours(self) -> int | None: ...
    @property
    def anchor(self) -> datetime | None: ...


class Span(NamedTuple):
    """From `starts_at` to just before `ends_at`, in UTC. `None`: it has no start, or no end."""

    starts_at: datetime | None
    ends_at: datetime | None


def span_at(board: Schedule, at: datetime) -> Span:
    """The period that the moment is in. Raises `ValueError` for seasons, which follow no rule."""
    moment = FIRST if at <= FIRST else LAST if at >= LAST else at.astimezone(UTC)
    if board.period == "forever":
        return Span(None, None)
    if board.period == "season":
        raise ValueError("seasons have explicit starts and ends")
    if board.period in ("hourly", "hours"):
        starts_at, ends_at = _hours(board, moment)
    else:
        starts_at, ends_at = _cuts(board, moment)
    return Span(starts_at if starts_at > FIRST else None, ends_at if ends_at <= LAST else None)


def spans(board: Schedule, at: datetime) -> Iterator[Span]:
    """The period that the moment is in, and all that follow, without end."""
    span = span_at(board, at)
    yield span
    while span.ends_at is not None:
        span = span_at(board, span.ends_at)
        yield span


def spans_back(board: Schedule, at: datetime) -> Iterator[Span]:
    """The period that the moment is in, and all before, the newest first."""
    span = span_at(board, at)
    yield span
    while span.starts_at is not None:
        span = span_at(board, span.starts_at - timedelta.resolution)
        yield span


def start_of(board: Schedule, day: date) -> datetime:
    """The moment by which a date names a period, as in `?period=2026-11-26`: the period that this moment is in.

    It is when that date is cut in the board's zone. So a date names the day that starts on it, although a day which is
    cut at 18:00 lasts until the next evening; the week or month that is under way once it is cut; and its first hour. A
    date that the zone skips names what comes instead.
    """
    if day <= FIRST.date() or day >= LAST.date():
        return FIRST if day <= FIRST.date() else LAST
    return _instant(datetime.combine(day, board.cut_time), ZoneInfo(board.zone))


def _hours(board: Schedule, moment: datetime) -> tuple[datetime, datetime]:
    """Hours are counted in absolute time: no clock that changes makes one shorter."""
    anchor, step = FIRST, HOUR
    if board.period == "hours":
        if board.anchor is None or board.every_hours is None:
            raise ValueError("every how many hours, and from when?")
        anchor, step = board.anchor, board.every_hours * HOUR
    starts_at = moment - (moment - anchor) % step
    return starts_at, starts_at + step


def _cuts(board: Schedule, moment: datetime) -> tuple[datetime, datetime]:
    """The last cut until the moment, and the first one after it. Two dates may be cut at once: see `Pacific/Apia`."""
    zone = ZoneInfo(board.zone)
    n = _number(board, moment.astimezone(zone).date()) + 1

    def cut(number: int) -> datetime:
        return _instant(datetime.combine(_date(board, number), board.cut_time), zone)

    # A clock that is put back by a day shows a date again that was cut already.
    after = next(number for number in count(n) if cut(number) > moment)
    while cut(after - 1) > moment:
        after -= 1
    return cut(after - 1), cut(after)


def _number(board: Schedule, day: date) -> int:
    """The days, weeks or months from the year 1 on, of which this is the one that the date is in."""
    if board.period == "monthly":
        return day.year * 12 + day.month - 1
    if board.period == "weekly":
        return (day.toordinal() - MONDAY - board.cut_weekday) // 7
    return day.toordinal()


def _date(board: Schedule, number: int) -> date:
    """The first date of the day, week or month with this number."""
    if board.period == "monthly":
        return date(number // 12, number % 12 + 1, 1)
    if board.period == "weekly":
        return date.fromordinal(number * 7 + board.cut_weekday + MONDAY)
    return date.fromordinal(number)


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which the clocks of the zone show this time or more."""
    shown = local.replace(tzinfo=zone).astimezone(UTC)  # of two, the first
    if _shown(shown, zone) == local:
        return shown
    # The clocks skip it. `shown` is by the offset from before the change, and so not before it; the other is.
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    seconds = (shown - before) // SECOND
    low, high = 0, seconds
    while low < high:
        middle = (low + high) // 2
        if _shown(before + middle * SECOND, zone) >= local:
            high = middle
        else:
            low = middle + 1
    return before + low * SECOND


def _shown(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
