"""The catalogue of actions in the admin. It can be edited, unlike scores: it holds rules."""

from __future__ import annotations

from django.contrib import admin

from scores.models import Action

from .conflicts import Revalidating


@admin.register(Action)
class ActionAdmin(Revalidating):
    list_display = ["name", "points", "cooldown_s", "daily_cap", "starts_at", "ends_at", "services_only", "enabled"]
    list_filter = ["enabled", "services_only"]
    fields = ["name", "points", "cooldown_s", "daily_cap", "starts_at", "ends_at", "services_only", "enabled"]
    ordering = ["name"]
    search_fields = ["name"]

    def get_readonly_fields(self, request: object, obj: Action | None = None) -> list[str]:
        """The name is read-only after the creation: it is the key, so a new name would create a second action."""
        return ["name"] if obj else []
