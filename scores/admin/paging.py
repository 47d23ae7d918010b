"""Pagination of tables that are too long to count."""

from __future__ import annotations

from typing import cast

from django.core.paginator import Page, Paginator
from django.db.models import Max, QuerySet
from django.utils.functional import cached_property

from scores.models import ScoreEvent, UserScore

MAX_LISTED = 10_000  # users, and events that a search or filter finds


class UserPaginator(Paginator):  # type: ignore[type-arg]  # generic in its stubs only
    """Counts at most `MAX_LISTED` users, so no page requires a walk over a million rows."""

    @cached_property
    def count(self) -> int:
        users = cast("QuerySet[UserScore]", self.object_list)
        return users.order_by()[:MAX_LISTED].count()


class LogPaginator(Paginator):  # type: ignore[type-arg]  # as above
    """Neither counts nor skips rows of the log, which grows for ever: seqs have no gaps, so a page is a range of them."""

    @cached_property
    def count(self) -> int:
        """The seq of the newest event; of a search or filter, at most `MAX_LISTED`."""
        events = cast("QuerySet[ScoreEvent]", self.object_list)
        if events.query.where:
            return events[:MAX_LISTED].count()
        newest: int | None = ScoreEvent.objects.aggregate(newest=Max("seq"))["newest"]
        return newest or 0

    def page(self, number: int | str) -> Page[ScoreEvent]:
        events = cast("QuerySet[ScoreEvent]", self.object_list)
        order = events.query.order_by[:1]
        if events.query.where or order not in (("seq",), ("-seq",)):
            return super().page(number)
        number = self.validate_number(number)
        before, until = (number - 1) * self.per_page, number * self.per_page
        if order == ("seq",):
            shown = events.filter(seq__gt=before, seq__lte=until)
        else:
            shown = events.filter(seq__gt=self.count - until, seq__lte=self.count - before)
        return Page(shown, number, self)
