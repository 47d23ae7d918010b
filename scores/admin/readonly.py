"""A mixin for what the admin shows but does not edit."""

from __future__ import annotations

from django.db.models import Model
from django.http import HttpRequest

NOTHING = "—"


class ReadOnly:
    """No user may edit, not even a superuser: scores change only by moderation, with a reason."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
