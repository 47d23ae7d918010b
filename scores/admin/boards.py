"""Boards in the admin: made, changed, archived, deleted, rebuilt and exported. `boards.definitions` does what changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from scores.boards import definitions
from scores.boards.documents import FIELDS, OF_PERIOD, Definition, parse
from scores.boards.rebuilding import rebuild
from scores.exceptions import (
    BoardArchived,
    BoardExists,
    BoardFixed,
    BoardInvalid,
    BoardsTooMany,
    BoardStreamInUse,
    BoardUnknown,
    CopyUnusable,
)
from scores.log.head import log
from scores.models import Board, Period

from .board_facts import PERIODS_PER_PAGE, TOP, Boards, csv_of, facts_of, periods_of, top_of
from .board_form import BoardForm, changeable, fixed_of, initial_of
from .export import csv_response
from .readonly import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .board_facts import Facts, ShownBoard

LIST = "admin:scores_board_changelist"
MAX_NUMBER = 2**31 - 1
DELETE_MOST_S = 1.0  # of a page; the follower removes what is left
ACTS = {
    "archive": (
        "change",
        "The period that is under way ends now. Nothing new counts on the board, and what it shows stays. "
        "This cannot be undone.",
    ),
    "rebuild": (
        "change",
        "Builds the standings anew from the log, then the copy in Redis. Until then, reads of this board are refused "
        "for a moment, as board_building; other boards go on.",
    ),
    "delete": (
        "delete",
        "The board, all its periods and everybody's standings in them go, and its addresses. The events stay in the "
        "log. This cannot be undone.",
    ),
}


class ArchivedFilter(admin.SimpleListFilter):
    title = "archived"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("no", "No"), ("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Board]) -> QuerySet[Board]:
        return queryset if self.value() is None else queryset.filter(archived_at__isnull=self.value() == "no")


class Stale(Exception):  # noqa: N818  names what happened
    """The form was made of another definition than the board has by now."""


@admin.register(Board)
class BoardAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    list_display = [*("name", "title", "rules", "cut", "source", "state", "current", "in_postgresql", "in_redis")]
    list_filter = ["fold", "period", "is_public", ArchivedFilter]
    list_per_page = 50
    ordering = ["name"]
    search_fields = ["name", "title"]
    empty_value_display = NOTHING
    actions = None
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": ["scores/admin.css"]}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Boards"} | (extra_context or {}))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Boards]:
        return Boards

    # Columns

    @admin.display
    def source(self, board: ShownBoard) -> str:
        if board.stream is not None:
            return "own stream" if board.stream == board.name else f"stream {board.stream}"
        return "points" if board.action is None else f"action {board.action}"

    @admin.display(ordering="fold")
    def rules(self, board: ShownBoard) -> str:
        return f"{board.fold}, {board.order}, {board.ties}"

    @admin.display(description="period", ordering="period")
    def cut(self, board: ShownBoard) -> str:
        kind = f"every {board.every_hours} hours" if board.every_hours else board.period
        is_local = board.period in (*OF_PERIOD["cutTime"], Board.PeriodKind.HOURLY)
        return f"{kind} in {board.zone}" if is_local else kind

    @admin.display
    def state(self, board: ShownBoard) -> str:
        shown = "public" if board.is_public else "by token"
        return shown if board.archived_at is None else f"{shown}, archived"

    @admin.display(description="current")
    def current(self, board: ShownBoard) -> str | None:
        """The number of the period, and when it ends."""
        period = board.facts.current
        if period is None or period.ends_at is None:
            return period and str(period.number)
        return f"{period.number}, until {period.ends_at:%Y-%m-%d %H:%M} UTC"

    @admin.display(description="PostgreSQL")
    def in_postgresql(self, board: ShownBoard) -> str:
        return board.facts.in_postgresql

    @admin.display(description="Redis")
    def in_redis(self, board: ShownBoard) -> str:
        return board.facts.in_redis

    # Permissions

    def may_export(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("scores.export_userscore")

    def _may(self, request: HttpRequest, permission: str) -> bool:
        """To act on boards that they may see, too."""
        return self.has_view_permission(request) and request.user.has_perm(f"scores.{permission}_board")

    # Pages

    def get_urls(self) -> list[Any]:
        pages: list[tuple[str, Callable[..., HttpResponseBase]]] = [("archive", self.act_view)]
        pages += [("rebuild", self.act_view), ("csv", self.csv_view)]
        own = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(view),
                {} if name == "csv" else {"name": name},
                name=f"scores_board_{name}",
            )
            for name, view in pages
        ]
        return [*own, *super().get_urls()]

    def _board(self, request: HttpRequest, object_id: str) -> Board:
        board: Board | None = self.get_object(request, object_id)  # a number
        if board is None:
            raise Http404
        return board

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A form for all fields; `like`, in the query string, is the id of a board to begin with."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        like = None
        if "like" in request.GET and self.has_view_permission(request):
            like = definitions.definition_of(self._board(request, request.GET["like"]))
        form = BoardForm(request.POST if request.method == "POST" else None, names=FIELDS, of=like)
        if like:
            form.initial.pop("name")
        if form.is_valid() and (board := _created(form, request.user.get_username())):
            self.log_addition(request, board, "Created")
            self.message_user(request, f"The board {board.name} was created.", messages.SUCCESS)
            return HttpResponseRedirect(
                _page_of(board) if self.has_view_permission(request) else reverse("admin:index")
            )
        title = f"Add a board like {like.name}" if like else "Add a board"
        return self._page(request, "form", title, form=form, button="Create", back=reverse(LIST))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The board, and a form for what can change of it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        board = self._board(request, object_id)
        definition = definitions.definition_of(board)
        names = changeable(definition) if self._may(request, "change") else set()
        form = BoardForm(request.POST if request.method == "POST" else None, names=names, of=definition)
        if request.method == "POST" and not names:
            raise PermissionDenied
        if form.is_valid() and (changed := _changed(board, form, request.user.get_username())):
            if changed.is_different:
                self.log_change(request, board, f"Changed {', '.join(_differences(changed))}")
            self.message_user(request, f"The board {board.name} was changed.", messages.SUCCESS)
            return HttpResponseRedirect(_page_of(board))
        return self._shown(request, board, definition, form)

    def _shown(self, request: HttpRequest, board: Board, definition: Definition, form: BoardForm) -> TemplateResponse:
        facts = facts_of([board.id])[board.id]
        before = _number(request.GET.get("before"), MAX_NUMBER)
        periods = periods_of(board.id, before)
        asked = _number(request.GET.get("period"), facts.current.number if facts.current else 1)
        found = top_of(board, asked)
        answer, top = found or (None, [])
        return self._page(
            request,
            "board",
            f"Board {board.name}",
            board=board,
            facts=facts,
            fixed=fixed_of(definition, form.fields),
            form=form if len(form.fields) > 1 else None,
            button="Save",
            back=reverse(LIST),
            tools=self._tools(request, board, facts, asked),
            period=asked,
            answer=answer,
            top=top,
            top_size=TOP,
            may_view_users=request.user.has_perm("scores.view_userscore"),
            periods=periods,
            earlier=periods[-1].number if len(periods) == PERIODS_PER_PAGE else None,
        )

    def _tools(self, request: HttpRequest, board: Board, facts: Facts, period: int) -> list[tuple[str, str]]:
        """The buttons: what this account may do with the board as it is."""
        tools = []
        if self.may_export(request):
            page = reverse("admin:scores_board_csv", args=[board.pk], query={"period": period})
            tools.append((f"Export period {period} as CSV", page))
        if self.has_add_permission(request):
            tools.append(("Make one like this", reverse("admin:scores_board_add", query={"like": board.pk})))
        acts = [name for name in ACTS if name != "archive" or board.archived_at is None]
        tools += [
            (f"{name.capitalize()} …", reverse(f"admin:scores_board_{name}", args=[board.pk]))
            for name in acts
            if self._may(request, ACTS[name][0])
        ]
        return [*tools, ("History", reverse("admin:scores_board_history", args=[board.pk]))]

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return self.act_view(request, object_id, "delete")

    def act_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Say what happens, then do it."""
        permission, effect = ACTS[name]
        if not self._may(request, permission):
            raise PermissionDenied
        board = self._board(request, object_id)
        form = forms.Form(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                return self._act(request, board, name)
            except BoardStreamInUse as error:
                form.add_error(None, str(error))
            except BoardUnknown:
                raise Http404 from None
        title = f"{name.capitalize()} board {board.name}"
        button, back = name.capitalize(), _page_of(board)
        return self._page(request, "form", title, board=board, form=form, effect=effect, button=button, back=back)

    def _act(self, request: HttpRequest, board: Board, name: str) -> HttpResponse:
        """The admin's own log hears of it only afterwards: what was refused has not happened."""
        actor = request.user.get_username()
        if name == "delete":
            definitions.delete(board.name, actor, most_s=DELETE_MOST_S)
            _note(request, board, DELETION)
            self.message_user(request, f"The board {board.name} was deleted.", messages.SUCCESS)
            return HttpResponseRedirect(reverse(LIST))
        if name == "archive":
            if definitions.archive(board.name, actor).is_different:
                self.log_change(request, board, "Archived")
            self.message_user(request, f"The board {board.name} is archived.", messages.SUCCESS)
            return HttpResponseRedirect(_page_of(board))
        told, level = f"The board {board.name} is being built anew.", messages.SUCCESS
        try:
            rebuild(board.id)
        except CopyUnusable as error:
            told = f"The standings of {board.name} are being built anew, but not its copy in Redis: {error}"
            level = messages.WARNING
        self.log_change(request, board, "Rebuilt")
        self.message_user(request, told, level)
        return HttpResponseRedirect(_page_of(board))

    def csv_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Everybody who stands in a period that has begun."""
        if not self.may_export(request):
            raise PermissionDenied
        board = self._board(request, object_id)
        period = _number(request.GET.get("period"), 0)
        if not Period.objects.filter(board=board, number=period).exclude(first_seq=None).exists():
            raise Http404
        _note(request, board, CHANGE, f"Exported period {period}")
        return csv_response(f"{board.name}-{period}", csv_of(board, period))

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        context |= {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "media": self.media}
        return TemplateResponse(request, f"admin/scores/board/{template}.html", context)


def _created(form: BoardForm, actor: str) -> Board | None:
    """The new board; `None` if the form says why there is none."""
    try:
        return definitions.create(parse(form.values()), actor)
    except BoardInvalid as error:
        form.take(error.mistakes)
    except BoardExists as error:
        form.add_error("name", str(error))
    except BoardsTooMany as error:
        form.add_error(None, str(error))
    return None


def _changed(board: Board, form: BoardForm, actor: str) -> definitions.Changed | None:
    """What changed; `None` if the form says why nothing did."""
    try:
        with transaction.atomic(using=log.alias):
            changed = definitions.change(board.name, form.values(), actor)
            # Now nobody else can change it: the definition before is the one that the form is compared with.
            if initial_of(changed.before)["seen"] != form.cleaned_data["seen"]:
                raise Stale
            return changed
    except Stale:
        form.add_error(None, "Somebody else has changed this board since you opened it. Open the page again.")
    except BoardInvalid as error:
        form.take(error.mistakes)
    except BoardFixed as error:
        for name in error.fields:
            form.add_error(name if name in form.fields else None, f"This cannot be changed any more: {name}.")
    except BoardArchived as error:
        form.add_error(None, str(error))
    except BoardUnknown as error:
        form.add_error(None, str(error))
    return None


def _differences(changed: definitions.Changed) -> list[str]:
    before, after = changed
    return [field for field, name in FIELDS.items() if getattr(before, name) != getattr(after, name)]


def _note(request: HttpRequest, board: Board, flag: int, message: str = "") -> None:
    """In the admin's own log, also of a board that is gone: Django's `log_deletions` would look for it."""
    LogEntry.objects.create(
        user_id=cast("int", request.user.pk),
        content_type=ContentType.objects.get_for_model(Board),
        object_id=str(board.pk),
        object_repr=board.name,
        action_flag=flag,
        change_message=message,
    )


def _page_of(board: Board) -> str:
    return reverse("admin:scores_board_change", args=[board.pk])


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default
