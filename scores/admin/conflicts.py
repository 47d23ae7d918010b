"""A mixin for pages whose rows somebody else may change or delete between the check of a form and its writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import DatabaseError, models, transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse

from scores.exceptions import is_conflict


class Revalidating(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    """Checks a form once more if its writes meet somebody else's, so that the form says what is wrong.

    By then their transaction has ended, and the check sees it. A second conflict is a 409 (see `edge.outage`).
    """

    def save_model(self, request: HttpRequest, obj: models.Model, form: ModelForm[Any], change: bool) -> None:
        """Without a wish, Django updates an action that another moderator has just added, and adds a deleted one again."""
        obj.save(force_insert=not change, force_update=change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        check_references()

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        super().delete_model(request, obj)
        check_references()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        check_references()

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return twice(lambda: super(Revalidating, self).changeform_view(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return twice(lambda: super(Revalidating, self).delete_view(request, *args, **kwargs))

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return twice(lambda: super(Revalidating, self).changelist_view(request, *args, **kwargs))


def twice(view: Callable[[], HttpResponse]) -> HttpResponse:
    """The response of `view`, which is called again if a conflict undid what it wrote."""
    try:
        with transaction.atomic():
            return view()
    except DatabaseError as error:
        if not is_conflict(error):
            raise
    with transaction.atomic():
        return view()


def check_references() -> None:
    """Raises `IntegrityError` now, and not at the commit, when the page has already said that it succeeded."""
    transaction.get_connection().check_constraints()
