"""Accounts: who may log in. Django's own pages, made safe for accounts that manage others and fast for many players."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest

admin.site.unregister(User)


@admin.register(User)
class AccountAdmin(UserAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    """Nobody can make themselves more than they are: what makes a superuser is for superusers.

    Django's own page lets whoever may change accounts tick "superuser", on their own account too.
    """

    search_fields = ["username__startswith"]  # an index; the default looks into four fields of each player
    search_help_text = "The beginning of a username"
    list_filter = ["is_staff", "is_superuser", "is_active", "groups"]
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fields = list(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else [*fields, "is_superuser", "user_permissions"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and may_touch(request, obj)


def may_touch(request: HttpRequest, account: User | None) -> bool:
    """Whether the account is not a superuser's, or the one who asks is one."""
    return account is None or not account.is_superuser or bool(request.user.is_superuser)
