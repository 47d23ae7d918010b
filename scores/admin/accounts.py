"""Accounts. Django's own pages, made safe for staff who manage accounts, and fast with many players."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

from scores.models import EndedAccount
from scores.user_id import is_user_id

from .conflicts import Revalidating, twice

# Tokens belong to their players: no page here shows them.
admin.site.unregister([User, Group, OutstandingToken, BlacklistedToken])


class AccountCreationForm(AdminUserCreationForm):  # type: ignore[type-arg]  # generic in its stubs only
    """Takes the names that players may register, and also one that has a score: it becomes the score of the account."""

    def clean_username(self) -> str:
        username: Any = super().clean_username()
        if username is None:  # the form has said why
            return None  # type: ignore[return-value]  # as Django's own does
        if not is_user_id(username):
            raise ValidationError("This username is not allowed.", "invalid")
        if EndedAccount.objects.filter(pk=username).exists():
            raise ValidationError("This username belonged to a deleted account, and nobody gets it again.", "reserved")
        return username


@admin.register(User)
class AccountAdmin(Revalidating, UserAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    """Staff cannot raise their own permissions: only superusers may change superusers and grant permissions.

    On Django's own page, everyone who may change accounts may tick "superuser", on their own account too.
    """

    add_form = AccountCreationForm
    search_fields = ["username__startswith"]  # uses an index; the default search reads four fields of every account
    search_help_text = "Search by the beginning of a username."
    list_filter = ["is_staff", "is_superuser", "is_active", "groups"]
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fields = list(super().get_readonly_fields(request, obj))
        if obj is not None:
            fields.append("username")  # the score has the name, too, and would stay with the old one
        return fields if request.user.is_superuser else [*fields, "is_superuser", "user_permissions"]

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return twice(lambda: super(AccountAdmin, self).user_change_password(request, *args, **kwargs))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and may_touch(request, obj)


@admin.register(Group)
class RevalidatingGroupAdmin(Revalidating, GroupAdmin):
    """As Django's own."""


def may_touch(request: HttpRequest, account: User | None) -> bool:
    """Whether the user of the request may change this account: superusers' accounts are for superusers only."""
    return account is None or not account.is_superuser or bool(request.user.is_superuser)
