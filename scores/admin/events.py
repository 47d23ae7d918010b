"""The log in the admin: read-only, but that events can be voided, which appends others."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scores.log.ledger import VOIDABLE_KINDS
from scores.models import ScoreEvent
from scores.user_id import is_service

from .filters import BoardFilter
from .paging import MAX_LISTED, LogPaginator
from .readonly import NOTHING, ReadOnly
from .voids import void_view


@admin.register(ScoreEvent)
class ScoreEventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    list_display = [
        *("seq", "player", "kind_name", "stream_name", "action", "points", "total", "actor", "reason", "created_at")
    ]
    list_filter = ["kind", BoardFilter]
    list_per_page = 50
    fields = [
        "seq",
        "player",
        "kind_name",
        "stream_name",
        "action",
        "points",
        "total",
        "voided",
        "metadata",
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

    @admin.display(description="board")
    def stream_name(self, event: ScoreEvent) -> str:
        """Whose stream a score belongs to; nothing for points."""
        return event.stream or NOTHING

    @admin.display(description="void")
    def voided(self, event: ScoreEvent) -> SafeString | str:
        """The event that this one takes back, or the one that takes this one back."""
        if event.voids is not None:
            return _linked("Takes back", event.voids)
        void = ScoreEvent.objects.filter(voids=event.seq).first()
        return NOTHING if void is None else _linked("Taken back by", void.seq)

    def has_void_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("scores.void_scoreevent")

    def get_urls(self) -> list[Any]:
        void = path("void/", self.admin_site.admin_view(self.void_view), name="scores_scoreevent_void")
        return [void, *super().get_urls()]

    def void_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media}
        return void_view(request, context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        event: ScoreEvent = context["original"]
        if self.has_void_permission(request):
            void = "admin:scores_scoreevent_void"
            context["voids"] = [("Void its user's events …", reverse(void, query={"user": event.user_id}))]
            if event.actor:
                context["voids"].insert(0, ("Void its actor's events …", reverse(void, query={"actor": event.actor})))
            if event.kind in VOIDABLE_KINDS and not ScoreEvent.objects.filter(voids=event.seq).exists():
                context["voids"].insert(0, ("Void this event …", reverse(void, query={"event": event.seq})))
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="user")
    def player(self, event: ScoreEvent) -> SafeString | str:
        if is_service(event.user_id):  # which was blocked, and has no page
            return event.user_id
        page = reverse("admin:scores_userscore_change", args=[quote(event.user_id)])
        return format_html('<a href="{}">{}</a>', page, event.user_id)


def _linked(text: str, seq: int) -> SafeString:
    page = reverse("admin:scores_scoreevent_change", args=[seq])
    return format_html('{} <a href="{}">event {}</a>', text, page, seq)
