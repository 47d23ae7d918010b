"""Who plays when, for services with the scope `analytics:read`: as JSON, or as CSV with `?format=csv`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from scores import engagement_selectors
from scores.access.authentication import AuthenticatedRequest, InsufficientScope
from scores.boards.documents import text_of
from scores.engagement.reads import (
    Actions,
    Active,
    Engagement,
    Hours,
    NewPlayers,
    Question,
    Retention,
    Sockets,
    columns_of,
)
from scores.log import refusals
from scores.log.token_uses import token_uses
from scores.scopes import Scope
from scores.spreadsheet import csv_text

from .async_view import AsyncView, json_response
from .headers import position
from .views import page_parameters

DATE = re.compile("20[0-9]{2}-[0-9]{2}-[0-9]{2}")  # a range of them ends in the year 2099 at the latest
MAX_DAYS, MAX_HOUR_DAYS = 366, 31  # of ranges in days and weeks, and of ranges in hours
MAX_WEEKS = 26
WEEKS = re.compile("[0-9]{1,2}")


class AnalyticsView(AsyncView):
    """Each view says what the query string asks for."""

    def initial(self, request: AuthenticatedRequest, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Before the throttle counts: whoever may not read this must not use up what limits it."""
        super().initial(request, *args, **kwargs)
        if Scope.READ_ANALYTICS not in request.user.scopes:
            raise InsufficientScope(Scope.READ_ANALYTICS)

    async def get(self, request: AuthenticatedRequest) -> HttpResponse:
        question, about = self.question(request)
        as_csv = wants_csv(request)
        service = request.user
        await refusals.admit(service.user_id, service.token)
        found = await engagement_selectors.engagement(question)
        token_uses.note(service.token)
        if as_csv:
            return csv_response(question, found)
        return json_response(about | {"rows": found.rows, "seq": found.seq, "asOf": text_of(found.as_of)}, fresh(found))

    def question(self, request: Request) -> tuple[Question, dict[str, Any]]:
        """What is asked for, and what the answer says of it. Raises `ValidationError`."""
        raise NotImplementedError


class ActiveView(AnalyticsView):
    """Players who played, by day or by week."""

    def question(self, request: Request) -> tuple[Question, dict[str, Any]]:
        by = request.query_params.get("by") or "day"
        if by not in ("day", "week"):
            raise ValidationError({"by": ["Expected day or week."]}, "not_a_choice")
        first, last = range_of(request, most=MAX_DAYS, usual=28)
        return Active(first, last, "week" if by == "week" else "day"), {"by": by} | about(first, last)


class NewPlayersView(AnalyticsView):
    """Players who played for the first time, by day."""

    def question(self, request: Request) -> tuple[Question, dict[str, Any]]:
        first, last = range_of(request, most=MAX_DAYS, usual=28)
        return NewPlayers(first, last), about(first, last)


class HoursView(AnalyticsView):
    """Increments, points, scores and voids by hour."""

    def question(self, request: Request) -> tuple[Question, dict[str, Any]]:
        first, last = range_of(request, most=MAX_HOUR_DAYS, usual=2)
        return Hours(first, last), about(first, last)


class ActionsView(AnalyticsView):
    """The actions that were taken most."""

    def question(self, request: Request) -> tuple[Question, dict[str, Any]]:
        limit, offset = page_parameters(request)
        first, last = range_of(request, most=MAX_HOUR_DAYS, usual=7)
        return Actions(first, last, limit, offset), about(first, last)


class RetentionView(AnalyticsView):
    """Of the players who first played in a week, how many played in each week since."""

    def question(self, request: Request) -> tuple[Question, dict[str, Any]]:
        asked = request.query_params.get("weeks") or "8"
        if not WEEKS.fullmatch(asked) or not 1 <= int(asked) <= MAX_WEEKS:
            raise ValidationError({"weeks": [f"Expected 1 to {MAX_WEEKS}."]}, "out_of_range")
        return Retention(today(), int(asked)), {"weeks": int(asked)}


class SocketsView(AnalyticsView):
    """The most sockets that were open at once, by hour."""

    def question(self, request: Request) -> tuple[Question, dict[str, Any]]:
        first, last = range_of(request, most=MAX_HOUR_DAYS, usual=2)
        return Sockets(first, last), about(first, last)


def today() -> date:
    return datetime.now(UTC).date()


def range_of(request: Request, *, most: int, usual: int) -> tuple[date, date]:
    """The days from `from` to `to` of the query string, both included; without them the last `usual` ones."""
    parameters = request.query_params
    last = today()
    if text := parameters.get("to"):
        if (found := day_of(text)) is None:
            raise ValidationError({"to": ["Expected a date such as 2026-11-26."]}, "invalid")
        last = found
    first = last - timedelta(days=usual - 1)
    if text := parameters.get("from"):
        if (found := day_of(text)) is None:
            raise ValidationError({"from": ["Expected a date such as 2026-11-01."]}, "invalid")
        first = found
    if first > last:
        raise ValidationError({"from": ["This is after the end of the range."]}, "after_to")
    if (last - first).days >= most:
        raise ValidationError({"from": [f"A range has at most {most} days here."]}, "too_early")
    return first, last


def day_of(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if DATE.fullmatch(text) else None
    except ValueError:  # there is no such date
        return None


def wants_csv(request: Request) -> bool:
    text = request.query_params.get("format") or "json"
    if text not in ("json", "csv"):
        raise ValidationError({"format": ["Expected json or csv."]}, "not_a_choice")
    return text == "csv"


def about(first: date, last: date) -> dict[str, Any]:
    return {"from": first.isoformat(), "to": last.isoformat()}


def fresh(found: Engagement) -> dict[str, str]:
    """As other reads have them. What needs a scope stays out of shared caches."""
    return {
        "X-Leaderboard-Source": "database",
        "X-Leaderboard-Seq": str(found.seq),
        **position(found.origin, found.seq),
        "X-Leaderboard-Age": f"{found.age_s:.1f}",
        "Cache-Control": "private, no-cache",
    }


def csv_response(question: Question, found: Engagement) -> HttpResponse:
    columns = columns_of(question)
    text = csv_text(columns, ([row[column] for column in columns] for row in found.rows))
    return HttpResponse(text.encode(), content_type="text/csv; charset=utf-8", headers=fresh(found))
