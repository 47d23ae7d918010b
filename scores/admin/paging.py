"""Pages of tables that are too long to be counted."""

from __future__ import annotations

from typing import cast

from django.core.paginator import Paginator
from django.db.models import Max, QuerySet
from django.utils.functional import cached_property

from scores.models import ScoreEvent, UserScore

MAX_LISTED = 10_000  # users; of events, those that a search or a filter finds


class UserPaginator(Paginator):  # type: ignore[type-arg]  # generic in its stubs only
    """Counts no rows of a million users, and has no page that a walk over all of them would lead to."""

    @cached_property
    def count(self) -> int:
        users = cast("QuerySet[UserScore]", self.object_list)
        return users.order_by()[:MAX_LISTED].count()


class LogPaginator(Paginator):  # type: ignore[type-arg]  # as above
    """Counts no rows of a log without an end."""

    @cached_property
    def count(self) -> int:
        """All there are, for the numbers have no gaps; of those that a search or a filter finds, the newest only."""
        events = cast("QuerySet[ScoreEvent]", self.object_list)
        if events.query.where:
            return events[:MAX_LISTED].count()
        newest: int | None = ScoreEvent.objects.aggregate(newest=Max("seq"))["newest"]
        return newest or 0
