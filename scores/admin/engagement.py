"""The page about engagement: who plays when, drawn as SVG with the numbers beside it, and each table as a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from scores.engagement import reads
from scores.engagement.reads import Actions, Active, Engagement, Hours, NewPlayers, Question, Retention, Row, Sockets
from scores.exceptions import AnalyticsBuilding
from scores.log.head import log
from scores.spreadsheet import csv_text

from .bars import bars

# Of the page: what can be taken in at a glance. The files have as much as the API gives at once.
DAYS, WEEKS, HOUR_DAYS, ACTION_DAYS, ACTIONS, COHORTS = 60, 26, 7, 28, 10, 10
FILES: dict[str, Callable[[date], Question]] = {
    "active-by-day": lambda today: Active(_back(today, 366), today),
    "active-by-week": lambda today: Active(_back(today, 366), today, "week"),
    "new-players": lambda today: NewPlayers(_back(today, 366), today),
    "retention": lambda today: Retention(today, 26),
    "hours": lambda today: Hours(_back(today, 31), today),
    "actions": lambda today: Actions(_back(today, 31), today, 1_000),
    "sockets": lambda today: Sockets(_back(today, 31), today),
}


class Section(NamedTuple):
    """A part of the page: charts, and the numbers of them in a table."""

    title: str
    file: str
    span: str  # which stretch of time is shown
    charts: list[SafeString]
    columns: Sequence[str]
    rows: list[list[Any]]  # the newest first


class Cohort(NamedTuple):
    """A row of the table of retention: the share of each week in percent, with a class that gives its shade."""

    week: str
    players: int
    shares: list[tuple[str, int, int]]


class TopAction(NamedTuple):
    """A row of the table of actions, with a bar as long as its share of the first one, from 0 to 100."""

    row: Row
    length: int


@require_safe
@admin.site.admin_view
@permission_required("scores.view_engagement", raise_exception=True)
def engagement(request: HttpRequest) -> HttpResponse:
    """Shows the last weeks, as of the newest event that the follower has counted."""
    context = {**admin.site.each_context(request), "title": "Engagement"}
    try:
        context |= _figures(_today())
    except AnalyticsBuilding:
        context["is_building"] = True
    return TemplateResponse(request, "admin/engagement/page.html", context, headers={"Cache-Control": "no-store"})


@require_safe
@admin.site.admin_view
@permission_required("scores.view_engagement", raise_exception=True)
def engagement_file(request: HttpRequest, name: str) -> HttpResponse:
    """One table as CSV, for spreadsheets."""
    if name not in FILES:
        raise Http404("There is no such table.")
    question = FILES[name](_today())
    try:
        (found,) = reads.answers(log, [question])
    except AnalyticsBuilding:
        rows: list[Row] = []
    else:
        rows = found.rows
    columns = reads.columns_of(question)
    text = csv_text(columns, ([row[column] for column in columns] for row in rows))
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{timezone.now():%Y%m%d-%H%M%S}.csv"',
        "Cache-Control": "no-store",
    }
    # Without the mark in front, Excel does not recognize UTF-8.
    return HttpResponse(f"\ufeff{text}".encode(), content_type="text/csv; charset=utf-8", headers=headers)


def _today() -> date:
    return datetime.now(UTC).date()


def _back(today: date, days: int) -> date:
    """The first of so many days that end with today."""
    return today - timedelta(days=days - 1)


def _figures(today: date) -> dict[str, Any]:
    """All of the page as of one event. Raises `AnalyticsBuilding`."""
    first = _back(today, DAYS)
    days, weeks, new, hours, sockets, actions, retention = reads.answers(
        log,
        [
            Active(first, today),
            Active(_back(today, 7 * WEEKS - 6), today, "week"),
            NewPlayers(first, today),
            Hours(_back(today, HOUR_DAYS), today),
            Sockets(_back(today, HOUR_DAYS), today),
            Actions(_back(today, ACTION_DAYS), today, ACTIONS),
            Retention(today, COHORTS),
        ],
    )
    return {
        "seq": days.seq,
        "as_of": days.as_of,
        "is_late": days.age_s > 60,
        "has_players": any(row["players"] for answer in (days, weeks, new) for row in answer.rows),
        "sections": [
            _section("Players by day", "active-by-day", f"{DAYS} days", days, players="Players"),
            _section("Players by week", "active-by-week", f"{WEEKS} weeks, from Mondays", weeks, players="Players"),
            _section("New players by day", "new-players", f"{DAYS} days", new, players="New players"),
            _section("By hour", "hours", f"{HOUR_DAYS} days", hours, increments="Increments", points="Points"),
            _section("Most open sockets", "sockets", f"{HOUR_DAYS} days, by hour", sockets, peak="Sockets"),
        ],
        "actions": _top(actions.rows),
        "action_days": ACTION_DAYS,
        "cohorts": _cohorts(retention.rows),
        "weeks_after": range(COHORTS),
    }


def _section(title: str, file: str, span: str, answer: Engagement, **drawn: str) -> Section:
    key, *_ = columns = list(answer.rows[0])
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    begun = [row for row in answer.rows if row[key] <= now]  # not the hours of today that are to come
    when = [_spoken(row[key]) for row in begun]
    charts = [
        bars(f"{file}-{column}", name if len(drawn) > 1 else title, name, when, [row[column] for row in begun])
        for column, name in drawn.items()
    ]
    rows = [[moment, *list(row.values())[1:]] for moment, row in zip(when, begun, strict=True)]
    return Section(title, file, span, charts, columns, rows[::-1])


def _spoken(moment: str) -> str:
    """`2026-11-26T18:00:00Z` as people write it."""
    return moment.removesuffix(":00Z").replace("T", " ")


def _top(rows: Sequence[Row]) -> list[TopAction]:
    most = max((row["increments"] for row in rows), default=0)
    return [TopAction(row, round(100 * row["increments"] / most) if most else 0) for row in rows]


def _cohorts(rows: Sequence[Row]) -> list[Cohort]:
    """The newest first; without those that nobody is in."""
    cohorts: dict[str, Cohort] = {}
    for row in rows:
        if row["share"] is not None:
            cohort = cohorts.setdefault(row["cohort"], Cohort(row["cohort"], row["players"], []))
            cohort.shares.append((f"share-{round(10 * row['share'])}", round(100 * row["share"]), row["players"]))
    return list(cohorts.values())[::-1]
