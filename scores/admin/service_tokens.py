"""The tokens of services: issued, rotated and revoked here, and services blocked. A token is shown once, after its issue."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from scores import service_tokens
from scores.models import ServiceToken
from scores.scopes import Scope
from scores.service_tokens import MAX_DAYS, MAX_GRACE_MINUTES, NAME_RULE, Issued, TokenError
from scores.user_id import SERVICE_NAME, SERVICE_PREFIX, is_user_id, service_id

from .moderation import MAX_AT_ONCE, MODERATIONS, ReasonForm, moderate, named
from .readonly import NOTHING, ReadOnly

if TYPE_CHECKING:
    from scores.service_tokens import ListedToken

LIST = "admin:scores_servicetoken_changelist"


class LifetimeForm(forms.Form):
    days = forms.IntegerField(min_value=1, max_value=MAX_DAYS, initial=90, help_text="Until the new token expires.")


class IssueForm(LifetimeForm):
    name = forms.RegexField(
        rf"\A{SERVICE_NAME}\Z",
        label="Service",
        help_text=f"{NAME_RULE}. Events name it as service:NAME. It may have several tokens.",
        error_messages={"invalid": f"Expected {NAME_RULE}."},
    )
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in Scope], widget=forms.CheckboxSelectMultiple
    )
    field_order = ["name", "scopes", "days"]


class RotationForm(LifetimeForm):
    grace_minutes = forms.IntegerField(
        label="Grace in minutes",
        min_value=0,
        max_value=MAX_GRACE_MINUTES,
        initial=0,
        help_text="How long the old token still works. With 0 it ends at once.",
    )


class ServiceForm(ReasonForm):
    service = forms.CharField(max_length=255, help_text="The name of the service, as in service:NAME.")
    field_order = ["service", "reason"]

    def clean_service(self) -> str:
        """The user id of the service. A token from before there were rows may have any name."""
        user_id = service_id(re.sub(rf"\A{SERVICE_PREFIX}", "", self.cleaned_data["service"]))
        if not is_user_id(user_id):
            raise forms.ValidationError("No service can have this name.")
        return user_id


class Ending(NamedTuple):
    """A way to end tokens. `name` is part of the URL; the form shows `effect`; `act` returns the token that replaces."""

    name: str
    effect: str
    form: type[forms.Form]
    act: Callable[..., Issued | None]


def _revoke(prefix: str, *, created_by: str) -> None:
    service_tokens.revoke(prefix)


ENDINGS = {
    ending.name: ending
    for ending in (
        Ending(
            "rotate",
            "Makes a new token with the same service and scopes for each of these, which then end.",
            RotationForm,
            service_tokens.rotate,
        ),
        Ending("revoke", "Ends these tokens at once, in every process. This cannot be undone.", forms.Form, _revoke),
    )
}
BLOCKS = {
    "block": "Refuses all tokens of the service at once, also those that are not in the list.",
    "unblock": "Admits the tokens of the service again, except those that have expired or were revoked.",
}


@admin.register(ServiceToken)
class ServiceTokenAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    list_display = ["prefix", "name", "scopes", "state", "last_used_at", "expires_at", "created_by"]
    fields = [
        "prefix",
        "name",
        "scopes",
        "state",
        "created_at",
        "created_by",
        "last_used_at",
        "expires_at",
        "revoked_at",
    ]
    list_per_page = 50
    ordering = ["-created_at", "prefix"]
    sortable_by = ["name", "last_used_at", "expires_at"]
    search_fields = ["name", "prefix"]
    empty_value_display = NOTHING
    actions = ["rotate_selected", "revoke_selected"]
    show_facets = admin.ShowFacets.NEVER

    def get_queryset(self, request: HttpRequest) -> QuerySet[ListedToken]:
        return service_tokens.with_state(super().get_queryset(request))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ListedToken | None:
        if "\0" in object_id:  # PostgreSQL raises an error instead of finding no row
            return None
        token: ListedToken | None = super().get_object(request, object_id, from_field)
        return token

    @admin.display
    def state(self, token: ListedToken) -> str:
        return token.state.capitalize()

    # Permissions

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("scores.add_servicetoken")

    def has_end_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("scores.change_servicetoken")

    def has_block_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("scores.block_userscore")

    # Pages

    def get_urls(self) -> list[Any]:
        pages = [(name, self.ending_view) for name in ENDINGS] + [(name, self.service_view) for name in BLOCKS]
        own = [
            path(f"{name}/", self.admin_site.admin_view(view), {"name": name}, name=f"scores_servicetoken_{name}")
            for name, view in pages
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"may_block": self.has_block_permission(request)}
        return super().changelist_view(request, context | (extra_context or {}))

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Issue a token, and show it. Not Django's own view, which would redirect and could show no secret."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = IssueForm(request.POST or None)
        if not form.is_valid():
            return self._page(request, "Issue a service token", form=form, button="Issue")
        issued = service_tokens.issue(**form.cleaned_data, created_by=request.user.get_username())
        self.log_addition(request, issued.row, f"Issued for {issued.row.name}: {issued.row.scopes}")
        return self._shown(request, [issued])

    @admin.action(description="Rotate the selected tokens …", permissions=["end"])
    def rotate_selected(self, request: HttpRequest, tokens: QuerySet[ListedToken]) -> HttpResponse | None:
        return self._ending(request, ENDINGS["rotate"], list(tokens[:MAX_AT_ONCE]), RotationForm())

    @admin.action(description="Revoke the selected tokens …", permissions=["end"])
    def revoke_selected(self, request: HttpRequest, tokens: QuerySet[ListedToken]) -> HttpResponse | None:
        return self._ending(request, ENDINGS["revoke"], list(tokens[:MAX_AT_ONCE]), forms.Form())

    def ending_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """End the tokens that `token`, in the body, names, after a confirmation."""
        if not self.has_end_permission(request):
            raise PermissionDenied
        prefixes = [prefix for prefix in request.POST.getlist("token") if "\0" not in prefix]
        tokens = list(self.get_queryset(request).filter(prefix__in=prefixes)[:MAX_AT_ONCE])
        if not tokens:
            raise Http404
        ending = ENDINGS[name]
        form = ending.form(request.POST)
        if not form.is_valid():
            return self._ending(request, ending, tokens, form)
        issued: list[Issued] = []
        for token in tokens:
            try:
                new = ending.act(token.prefix, **form.cleaned_data, created_by=request.user.get_username())
            except TokenError as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            if new is None:
                self.log_change(request, token, "Revoked")
                self.message_user(request, f"The token {token} was revoked.", messages.SUCCESS)
            else:
                self.log_change(request, token, f"Rotated: replaced by {new.row.prefix}")
                self.log_addition(request, new.row, f"Issued in place of {token.prefix}")
                issued.append(new)
        return self._shown(request, issued) if issued else HttpResponseRedirect(reverse(LIST))

    def service_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Block or unblock a service by its name: it may have tokens that are not in the list."""
        if not self.has_block_permission(request):
            raise PermissionDenied
        moderation = MODERATIONS[name]
        form = ServiceForm(request.POST) if request.method == "POST" else ServiceForm(initial=request.GET.dict())
        if not form.is_valid():
            return self._page(
                request, f"{name.capitalize()} a service", form=form, button=name.capitalize(), effect=BLOCKS[name]
            )
        user_id, reason = form.cleaned_data["service"], form.cleaned_data["reason"]
        (outcome,) = moderate(moderation, [user_id], actor=request.user.get_username(), details={"reason": reason})
        if outcome.recorded is None:
            self.message_user(request, outcome.failure, messages.ERROR)
        else:
            done = f"{named(user_id)} was {moderation.past} in event {outcome.recorded.seq}."
            self.message_user(request, done, messages.SUCCESS)
        return HttpResponseRedirect(reverse(LIST))

    def _ending(
        self, request: HttpRequest, ending: Ending, tokens: Sequence[ListedToken], form: forms.Form
    ) -> TemplateResponse:
        name = ending.name.capitalize()
        return self._page(
            request,
            f"{name} {tokens[0].prefix if len(tokens) == 1 else f'{len(tokens)} tokens'}",
            form=form,
            button=name,
            effect=ending.effect,
            tokens=tokens,
            action=reverse(f"admin:scores_servicetoken_{ending.name}"),
        )

    def _shown(self, request: HttpRequest, issued: Sequence[Issued]) -> TemplateResponse:
        """The page with the new tokens, which no cache keeps."""
        response = self._page(request, "Copy the token now", issued=issued)
        response["Cache-Control"] = "no-store"
        return response

    def _page(self, request: HttpRequest, title: str, **context: Any) -> TemplateResponse:
        context |= {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "back": reverse(LIST)}
        return TemplateResponse(request, "admin/scores/servicetoken/page.html", context)
