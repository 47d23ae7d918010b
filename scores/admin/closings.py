"""What became of periods that closed: results, and the messages about them. Both are read-only; a message can be sent again."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from scores.boards import webhooks
from scores.models import BoardResult, WebhookDelivery

from .readonly import ReadOnly


@admin.register(BoardResult)
class BoardResultAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    list_display = ["board", "period", "place", "user_id", "score", "reward", "reward_seq", "refusal"]
    list_display_links = None
    list_filter = ["board"]
    list_select_related = ["board"]
    list_per_page = 50
    ordering = ["-id"]
    search_fields = ["user_id__exact"]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["board", "period", "url", "attempts", "next_at", "last_status", "last_error", "delivered_at"]
    list_display_links = None
    list_filter = ["board"]
    list_select_related = ["board"]
    list_per_page = 50
    ordering = ["-id"]
    actions = ["retry"]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scores.change_webhookdelivery")

    @admin.action(description="Send again now", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        count = webhooks.retry(list(queryset.values_list("id", flat=True)))
        messages.success(request, f"{count} of them will be sent within a second or so. What was delivered stays so.")
