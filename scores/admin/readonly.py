"""What the admin shows and does not edit."""

from __future__ import annotations

from django.db.models import Model
from django.http import HttpRequest

NOTHING = "—"


class ReadOnly:
    """Whoever may view may look; nobody may edit, superusers included. What changes a score is an act, with a reason."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
