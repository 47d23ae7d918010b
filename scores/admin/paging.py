"""Pagination of tables that are too long to count."""

from __future__ import annotations

from typing import cast

from django.core.paginator import Paginator
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
    """Does not count the rows of the log, which grows for ever."""

    @cached_property
    def count(self) -> int:
        """The seq of the newest event, since seqs have no gaps; of a search or filter, at most `MAX_LISTED`."""
        events = cast("QuerySet[ScoreEvent]", self.object_list)
        if events.query.where:
            return events[:MAX_LISTED].count()
        newest: int | None = ScoreEvent.objects.aggregate(newest=Max("seq"))["newest"]
        return newest or 0
