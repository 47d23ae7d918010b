"""The filters of the lists of users and of events."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Max, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from scores.models import Board, ScoreEvent

if TYPE_CHECKING:
    from .standing import ShownScore

# Powers of ten, since a board has few high scores and many low ones. Both ends of a band are included.
BANDS: dict[str, tuple[int, int | None]] = {
    "0": (0, 0),
    "1-99": (1, 99),
    "100-999": (100, 999),
    "1000-9999": (1_000, 9_999),
    "10000-99999": (10_000, 99_999),
    "100000-999999": (100_000, 999_999),
    "1000000-": (1_000_000, None),
}


DAYS = {"1": "In the last 24 hours", "7": "In the last 7 days", "30": "In the last 30 days"}
LONG_AGO = "-30"


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "blocked"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("no", "On the board"), ("yes", "Blocked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ShownScore]) -> QuerySet[ShownScore]:
        return queryset if self.value() is None else queryset.filter(blocked=self.value() == "yes")


class ScoreFilter(admin.SimpleListFilter):
    """A band of scores, which is a range of the index that sorts the list."""

    title = "score"
    parameter_name = "band"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(name, band_label(least, most)) for name, (least, most) in BANDS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ShownScore]) -> QuerySet[ShownScore]:
        least, most = BANDS.get(self.value() or "", (None, None))
        if least is not None:
            queryset = queryset.filter(score__gte=least)
        return queryset if most is None else queryset.filter(score__lte=most)


def band_label(least: int, most: int | None) -> str:
    if least == most:
        return f"{least:,}"
    return f"{least:,} to {most:,}" if most is not None else f"{least:,} and more"


class ActivityFilter(admin.SimpleListFilter):
    """When a user's score last changed.

    No index serves this filter: every change of a score would write the index, and the filter is rarely used. See
    docs/admin.md for the cost.
    """

    title = "last active"
    parameter_name = "active"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [*DAYS.items(), (LONG_AGO, "Not for 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ShownScore]) -> QuerySet[ShownScore]:
        days = self.value()
        if days == LONG_AGO:
            return queryset.filter(updated_at__lt=timezone.now() - timedelta(days=30))
        if days in DAYS:
            return queryset.filter(updated_at__gte=timezone.now() - timedelta(days=int(days)))
        return queryset


class BoardFilter(admin.SimpleListFilter):
    """The scores of the stream that a board ranks, its own or another's, among the newest `MAX_NEWEST` events.

    No index serves this filter either: each submission would have to write it. Without a bound, a board with few scores
    would cost a walk over the whole log.
    """

    title = "board"
    parameter_name = "board"
    MAX_NEWEST = 100_000
    MAX_CHOICES = 50  # any other board can be named in the address

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        names = Board.objects.exclude(stream=None).order_by("name").values_list("name", flat=True)
        return [(name, name) for name in names[: self.MAX_CHOICES]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ScoreEvent]) -> QuerySet[ScoreEvent]:
        name = self.value()
        if name is None or "\0" in name:
            return queryset
        # A board that is gone left its scores behind, under its name.
        stream = Board.objects.filter(name=name).exclude(stream=None).values_list("stream", flat=True).first() or name
        newest: int = ScoreEvent.objects.aggregate(newest=Max("seq"))["newest"] or 0
        return queryset.filter(stream=stream, seq__gt=newest - self.MAX_NEWEST)
