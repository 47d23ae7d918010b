"""The admin: who has which score, and what happened to it. For looking only; what changes a score is in `services`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, cast

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Case, Exists, Max, Model, OuterRef, QuerySet, Value, When
from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

from . import (
    action_admin,  # noqa: F401  registers the catalogue
    selectors,
)
from .exceptions import NoStoreAnswers
from .models import Block, ScoreEvent, UserScore

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class Shown(TypedDict):
        blocked: bool
        rank: int | None  # None: not on the board, or no store answers

    ShownScore = WithAnnotations[UserScore, Shown]

NEWEST_EVENTS = 50  # on the page of a user
MOST_FOUND = 10_000  # events that a search or a filter lists
NOTHING = "—"

admin.site.site_header = admin.site.site_title = "Leaderboard"


class ReadOnly:
    """Whoever may view may look; nobody may touch, superusers included."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class NewestEvents(BaseInlineFormSet):  # type: ignore[type-arg]  # generic in its stubs only, as are those below
    """Slices here: the queryset of an inline is still filtered by its user, which a slice would not let happen."""

    def get_queryset(self) -> QuerySet[ScoreEvent]:
        if not hasattr(self, "_newest"):
            self._newest = super().get_queryset()[:NEWEST_EVENTS]
        return self._newest


class EventsInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = ScoreEvent
    formset = NewestEvents
    fields = ["seq", "kind", "points", "total", "actor", "reason", "created_at"]
    ordering = ["-seq"]
    show_change_link = True
    verbose_name_plural = f"newest {NEWEST_EVENTS} events"


class Standings(ChangeList):
    """A page of users with their ranks."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        place(list(self.result_list))


def place(users: list[ShownScore]) -> None:
    """Give each of `users` their rank, by one question for all of them."""
    try:
        entries = selectors.standings([user.user_id for user in users]) if users else {}
    except NoStoreAnswers:
        entries = {}
    for user in users:
        entry = entries.get(user.user_id)
        user.rank = entry and entry.rank


class BlockedFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "blocked"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("no", "On the board"), ("yes", "Blocked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ShownScore]) -> QuerySet[ShownScore]:
        return queryset if self.value() is None else queryset.filter(blocked=self.value() == "yes")


@admin.register(UserScore)
class UserScoreAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["user_id", "score", "rank", "on_the_board", "updated_at"]
    list_filter = [BlockedFilter]
    list_per_page = 50
    fields = ["user_id", "rank", "score", "state", "updated_at"]
    inlines = [EventsInline]
    ordering = ["-score", "-user_id"]  # the board's own, which has an index
    sortable_by = ["user_id", "score"]  # what else one could sort by has none
    search_fields = ["user_id"]  # shows the box; see `get_search_results`
    search_help_text = "The beginning of a user id, in its upper and lower case"
    empty_value_display = NOTHING
    actions = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would count a million users

    def get_queryset(self, request: HttpRequest) -> QuerySet[ShownScore]:
        blocks = Block.objects.filter(user_id=OuterRef("user_id"))
        users = super().get_queryset(request).annotate(blocked=Exists(blocks))
        return cast("QuerySet[ShownScore]", users)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ShownScore], search_term: str
    ) -> tuple[QuerySet[ShownScore], bool]:
        """Whoever is called exactly so, then those whose ids begin so.

        Django's own search ignores case (`UPPER(user_id) LIKE …`) and reads the whole table; this is a range of the key.
        """
        if not search_term:
            return queryset, False
        exact_first = Case(When(user_id=search_term, then=Value(0)), default=Value(1))
        found = queryset.filter(user_id__startswith=search_term)
        return found.order_by(exact_first, *queryset.query.order_by), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Standings

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ShownScore | None:
        if "\0" in object_id:  # which PostgreSQL answers with an error instead of with nobody
            return None
        user: ShownScore | None = super().get_object(request, object_id, from_field)
        if user is not None:
            place([user])
        return user

    @admin.display
    def rank(self, user: ShownScore) -> int | str:
        return NOTHING if user.rank is None else user.rank

    @admin.display(boolean=True)
    def on_the_board(self, user: ShownScore) -> bool:
        return not user.blocked

    @admin.display
    def state(self, user: ShownScore) -> str:
        """On the page of a user: where they are, and if off the board, why."""
        block = ScoreEvent.objects.filter(seq__in=Block.objects.filter(user_id=user.user_id).values("seq")).first()
        if block is None:
            return "On the board"
        page = reverse("admin:scores_scoreevent_change", args=[block.seq])
        return format_html('Blocked by {} in <a href="{}">event {}</a>: {}', block.actor, page, block.seq, block.reason)


class LogPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no rows of a log without an end."""

    @cached_property
    def count(self) -> int:
        """All there are, for the numbers have no gaps; of those that a search or a filter finds, the newest only."""
        events = cast("QuerySet[ScoreEvent]", self.object_list)
        if events.query.where:
            return events[:MOST_FOUND].count()
        newest: int | None = ScoreEvent.objects.aggregate(newest=Max("seq"))["newest"]
        return newest or 0


@admin.register(ScoreEvent)
class ScoreEventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["seq", "player", "kind", "points", "total", "actor", "reason", "created_at"]
    list_filter = ["kind"]
    list_per_page = 50
    fields = ["seq", "player", "kind", "points", "total", "idempotency_key", "actor", "reason", "created_at"]
    ordering = ["-seq"]
    sortable_by = ["seq"]
    search_fields = ["user"]  # shows the box; see `get_search_results`
    search_help_text = f"A whole user id. Of what is searched for or filtered, the newest {MOST_FOUND} are listed."
    empty_value_display = NOTHING
    actions = None
    paginator = LogPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ScoreEvent], search_term: str
    ) -> tuple[QuerySet[ScoreEvent], bool]:
        """The events of one user, which have an index."""
        return (queryset.filter(user=search_term) if search_term else queryset), False

    @admin.display(description="user")
    def player(self, event: ScoreEvent) -> SafeString:
        page = reverse("admin:scores_userscore_change", args=[quote(event.user_id)])
        return format_html('<a href="{}">{}</a>', page, event.user_id)
