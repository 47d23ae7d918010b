"""The catalogue of actions in the admin: the one thing there that is edited, since it is a rule and not a score."""

from __future__ import annotations

from django.contrib import admin

from scores.models import Action


@admin.register(Action)
class ActionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    list_display = ["name", "points", "cooldown_s", "daily_cap", "enabled"]
    list_filter = ["enabled"]
    fields = ["name", "points", "cooldown_s", "daily_cap", "enabled"]
    ordering = ["name"]
    search_fields = ["name"]

    def get_readonly_fields(self, request: object, obj: Action | None = None) -> list[str]:
        """The name is the key: another one would be another action, beside the one it was."""
        return ["name"] if obj else []
