"""The users in the admin: the list, a page for each, moderation and the export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ERROR_FLAG, SEARCH_VAR, ChangeList
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Exists, OuterRef, QuerySet, Value, When
from django.forms import BaseInlineFormSet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scores.models import Block, ScoreEvent, UserScore
from scores.user_id import is_storable

from .chart import NEWEST, chart
from .export import csv_chunks, csv_response
from .filters import ActivityFilter, ScoreFilter, StateFilter
from .moderation import MAX_AT_ONCE, MODERATIONS, Moderation, Outcome, ReasonForm, moderate, named
from .paging import MAX_LISTED, UserPaginator
from .readonly import NOTHING, ReadOnly
from .scoreless import blocked, places, scoreless, search
from .standing import Standings, add_ranks

if TYPE_CHECKING:
    from .standing import ShownScore

NEWEST_EVENTS = 50  # on the page of a user


class NewestEvents(BaseInlineFormSet):  # type: ignore[type-arg]  # generic in its stubs only, as are those below
    """Slices here: Django filters the queryset of an inline by user first, and cannot filter a slice."""

    def get_queryset(self) -> QuerySet[ScoreEvent]:
        if not hasattr(self, "_newest"):
            self._newest = super().get_queryset().filter(kind__in=ScoreEvent.Kind.values)[:NEWEST_EVENTS]
        return self._newest


class EventsInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = ScoreEvent
    formset = NewestEvents
    fields = ["seq", "kind", "stream", "points", "total", "actor", "reason", "idempotency_key", "created_at"]
    ordering = ["-seq"]
    show_change_link = True
    verbose_name_plural = f"newest {NEWEST_EVENTS} events"


@admin.register(UserScore)
class UserScoreAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["user_id", "score", "rank", "on_the_board", "updated_at"]
    list_filter = [StateFilter, ScoreFilter, ActivityFilter]
    list_per_page = 50
    fields = ["user_id", "rank", "score", "state", "updated_at", "places_on_boards", "score_over_time"]
    inlines = [EventsInline]
    ordering = ["-score", "-user_id"]  # the order of the board, which has an index
    sortable_by = ["user_id", "score"]  # the other columns have no index
    search_fields = ["user_id"]  # shows the box; see `get_search_results`
    search_help_text = (
        f"Search by the beginning of a user id; upper and lower case matter. At most {MAX_LISTED:,} users are listed."
    )
    empty_value_display = NOTHING
    actions = ["block_selected", "unblock_selected"]
    paginator = UserPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each facet would count a million users

    class Media:
        css = {"all": ["scores/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ShownScore]:
        blocks = Block.objects.filter(user_id=OuterRef("user_id"))
        users = super().get_queryset(request).annotate(blocked=Exists(blocks))
        return cast("QuerySet[ShownScore]", users)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ShownScore], search_term: str
    ) -> tuple[QuerySet[ShownScore], bool]:
        """The user with exactly this id, then the users whose ids begin with it.

        Django's own search ignores case (`UPPER(user_id) LIKE …`) and reads the whole table; this reads a range of the
        key.
        """
        if not search_term:
            return queryset, False
        exact_first = Case(When(user_id=search_term, then=Value(0)), default=Value(1))
        matching = queryset.filter(user_id__startswith=search_term)
        return matching.order_by(exact_first, *queryset.query.order_by), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Standings

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ShownScore | None:
        if "\0" in object_id:  # PostgreSQL raises an error instead of finding no row
            return None
        user: ShownScore | None = super().get_object(request, object_id, from_field)
        if user is None:
            return next(iter(scoreless([object_id])), None)
        add_ranks([user])
        return user

    # Columns and fields

    @admin.display
    def rank(self, user: ShownScore) -> int | str:
        return NOTHING if user.rank is None else user.rank

    @admin.display(boolean=True)
    def on_the_board(self, user: ShownScore) -> bool:
        return not user.blocked

    @admin.display
    def state(self, user: ShownScore) -> str:
        """On the page of a user: whether they are on the board, and if not, why."""
        if not user.blocked:
            return "No points" if user._state.adding else "On the board"
        block = ScoreEvent.objects.filter(seq__in=Block.objects.filter(user_id=user.user_id).values("seq")).first()
        if block is None:  # unblocked since `user` was read
            return "On the board"
        page = reverse("admin:scores_scoreevent_change", args=[block.seq])
        return format_html('Blocked by {} in <a href="{}">event {}</a>: {}', block.actor, page, block.seq, block.reason)

    @admin.display
    def score_over_time(self, user: ShownScore) -> SafeString | None:
        events = ScoreEvent.objects.filter(user=user.user_id, kind__in=ScoreEvent.Kind.values, stream=None)
        return chart(list(events.order_by("-seq")[:NEWEST]))

    @admin.display(description="boards")
    def places_on_boards(self, user: ShownScore) -> SafeString | None:
        return places(user.user_id)

    # Permissions; each requires the permission to view users

    def has_correct_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "correct")

    def has_block_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "block")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "export")

    def _may(self, request: HttpRequest, permission: str) -> bool:
        return self.has_view_permission(request) and request.user.has_perm(f"scores.{permission}_userscore")

    # Moderation

    def get_urls(self) -> list[Any]:
        moderations = [
            path(
                f"{name}/",
                self.admin_site.admin_view(self.moderation_view),
                {"name": name},
                name=f"scores_userscore_{name}",
            )
            for name in MODERATIONS
        ]
        export = path("export/", self.admin_site.admin_view(self.export_view), name="scores_userscore_export")
        return [*moderations, export, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"title": "Users", "may_export": self.has_export_permission(request)}
        if self.has_view_permission(request):
            context["scoreless"] = _scoreless_of(request)
        return super().changelist_view(request, context | (extra_context or {}))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        user: ShownScore = context["original"]
        possible = ["unblock"] if user.blocked else ["correct", "block"]  # a hidden score cannot be corrected
        if user._state.adding and "correct" in possible:  # no score is none to correct
            possible.remove("correct")
        context["moderations"] = [
            (name.capitalize(), reverse(f"admin:scores_userscore_{name}", query={"user": user.user_id}))
            for name in possible
            if self._may(request, MODERATIONS[name].permission)
        ]
        if request.user.has_perms(["scores.view_scoreevent", "scores.void_scoreevent"]):
            page = reverse("admin:scores_scoreevent_void", query={"user": user.user_id})
            context["moderations"].append(("Void events …", page))
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description="Block the selected users …", permissions=["block"])
    def block_selected(self, request: HttpRequest, users: QuerySet[ShownScore]) -> HttpResponse | None:
        return self._selected(request, MODERATIONS["block"], users)

    @admin.action(description="Unblock the selected users …", permissions=["block"])
    def unblock_selected(self, request: HttpRequest, users: QuerySet[ShownScore]) -> HttpResponse | None:
        return self._selected(request, MODERATIONS["unblock"], users)

    def _selected(
        self, request: HttpRequest, moderation: Moderation, users: QuerySet[ShownScore]
    ) -> HttpResponse | None:
        selected = list(users[: MAX_AT_ONCE + 1])
        if len(selected) > MAX_AT_ONCE:
            self.message_user(request, f"Select at most {MAX_AT_ONCE} users.", messages.ERROR)
            return None
        return self._confirmation(request, moderation, selected, moderation.form())

    def moderation_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask for a reason, then moderate. `user`, in the query string or the body, names each of the users."""
        moderation = MODERATIONS[name]
        if not self._may(request, moderation.permission):
            raise PermissionDenied
        user_ids = (request.POST if request.method == "POST" else request.GET).getlist("user")
        users = self._existing(request, user_ids)
        if name != "correct":
            users += scoreless(user_ids)
        if not users or len(users) > (1 if name == "correct" else MAX_AT_ONCE):
            raise Http404
        form = (
            moderation.form(request.POST)
            if request.method == "POST"
            else moderation.form(initial={"total": users[0].score})
        )
        if not form.is_valid():
            return self._confirmation(request, moderation, users, form)
        outcomes = moderate(
            moderation,
            [user.user_id for user in users],
            actor=request.user.get_username(),
            details=form.cleaned_data,
        )
        self._report(request, moderation, users, outcomes, form.cleaned_data["reason"])
        return HttpResponseRedirect(self._return_url(request, users))

    def _existing(self, request: HttpRequest, user_ids: Sequence[str]) -> list[ShownScore]:
        """Those of `user_ids` who have a score, in the order of the board."""
        users = self.get_queryset(request).filter(user_id__in=[user_id for user_id in user_ids if is_storable(user_id)])
        return list(users.order_by(*self.ordering))

    def _confirmation(
        self, request: HttpRequest, moderation: Moderation, users: Sequence[ShownScore], form: ReasonForm
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{moderation.name.capitalize()} {users[0].user_id if len(users) == 1 else f'{len(users)} users'}",
            "opts": self.opts,
            "moderation": moderation,
            "users": users,
            "form": form,
            "media": self.media,
            "action": self._with_filters(request, reverse(f"admin:scores_userscore_{moderation.name}")),
            "back": self._return_url(request, users),
        }
        return TemplateResponse(request, "admin/scores/userscore/moderation.html", context)

    def _return_url(self, request: HttpRequest, users: Sequence[ShownScore]) -> str:
        """The page of a single user, which shows the new event; otherwise the list as it was."""
        if len(users) == 1:
            page = reverse("admin:scores_userscore_change", args=[quote(users[0].user_id)])
        else:
            page = reverse("admin:scores_userscore_changelist")
        return self._with_filters(request, page)

    def _with_filters(self, request: HttpRequest, url: str) -> str:
        """`url` with the filters of the list, so that the way back leads to the same list."""
        context: Any = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        return add_preserved_filters(context, url)

    def _report(
        self,
        request: HttpRequest,
        moderation: Moderation,
        users: Sequence[ShownScore],
        outcomes: Sequence[Outcome],
        reason: str,
    ) -> None:
        """Show a message about each outcome, and add the changes to the admin's own log."""
        done = 0
        for user, outcome in zip(users, outcomes, strict=True):
            if outcome.recorded is None:
                self.message_user(request, outcome.failure, messages.ERROR)
                continue
            done += 1
            event = f"in event {outcome.recorded.seq}"
            if moderation.name == "correct":
                # The event has the score before it: the one shown here may be older.
                event = f"to {outcome.recorded.total} {event}"
            self.log_change(request, user, f"{moderation.past.capitalize()} {event}: {reason}")
            if len(users) == 1:
                self.message_user(request, f"{named(user.user_id)} was {moderation.past} {event}.", messages.SUCCESS)
        if len(users) > 1 and done:
            self.message_user(
                request, f"{done} user{'s were' if done > 1 else ' was'} {moderation.past}.", messages.SUCCESS
            )

    # Export

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The whole list, searched and filtered as it is shown."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        try:
            users = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:  # the list itself answers an invalid filter in the same way
            return HttpResponseRedirect(f"{reverse('admin:scores_userscore_changelist')}?{ERROR_FLAG}=1")
        LogEntry.objects.create(
            user_id=cast("int", request.user.pk),
            content_type=ContentType.objects.get_for_model(UserScore),
            object_repr="the list of users",
            action_flag=CHANGE,
            change_message=f"Exported {request.GET.urlencode() or 'all users'}",
        )
        return csv_response("users", csv_chunks(users))


def _scoreless_of(request: HttpRequest) -> list[tuple[str, str]]:
    """The players without points that a search or the filter for blocked users finds, with their pages."""
    text = request.GET.get(SEARCH_VAR, "")
    is_of_blocked = request.GET.get(StateFilter.parameter_name) == "yes"
    found = blocked(text) if is_of_blocked else search(text)  # which finds nobody by no text
    return [(user_id, reverse("admin:scores_userscore_change", args=[quote(user_id)])) for user_id in found]
