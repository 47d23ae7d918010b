"""The log in the admin, read-only."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scores.models import ScoreEvent
from scores.user_id import is_service

from .paging import MAX_LISTED, LogPaginator
from .readonly import NOTHING, ReadOnly


@admin.register(ScoreEvent)
class ScoreEventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    list_display = ["seq", "player", "kind_name", "action", "points", "total", "actor", "reason", "created_at"]
    list_filter = ["kind"]
    list_per_page = 50
    fields = [
        "seq",
        "player",
        "kind_name",
        "action",
        "points",
        "total",
        "idempotency_key",
        "actor",
        "reason",
        "created_at",
    ]
    ordering = ["-seq"]
    sortable_by = ["seq"]
    search_fields = ["user"]  # shows the box; see `get_search_results`
    search_help_text = f"Enter a complete user id. A search or filter lists at most the newest {MAX_LISTED:,} events."
    empty_value_display = NOTHING
    actions = None
    paginator = LogPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ScoreEvent], search_term: str
    ) -> tuple[QuerySet[ScoreEvent], bool]:
        """The events of one user, by an index."""
        return (queryset.filter(user=search_term) if search_term else queryset), False

    @admin.display(description="kind")
    def kind_name(self, event: ScoreEvent) -> str:
        """Also a kind that a later version wrote, which Django would show as nothing."""
        return str(event.get_kind_display())

    @admin.display(description="user")
    def player(self, event: ScoreEvent) -> SafeString | str:
        if is_service(event.user_id):  # which was blocked, and has no page
            return event.user_id
        page = reverse("admin:scores_userscore_change", args=[quote(event.user_id)])
        return format_html('<a href="{}">{}</a>', page, event.user_id)
