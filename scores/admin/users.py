"""The users of the board: the list, the page of each, and the acts on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
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
    StreamingHttpResponse,
)
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scores.models import Block, ScoreEvent, UserScore
from scores.user_id import is_user_id

from .chart import NEWEST, chart
from .export import streamed
from .filters import ActivityFilter, ScoreFilter, StateFilter
from .moderation import MAX_AT_ONCE, MODERATIONS, Moderation, Outcome, ReasonForm, carry_out
from .paging import MAX_LISTED, UserPaginator
from .readonly import NOTHING, ReadOnly
from .standing import Standings, place

if TYPE_CHECKING:
    from .standing import ShownScore

NEWEST_EVENTS = 50  # on the page of a user


class NewestEvents(BaseInlineFormSet):  # type: ignore[type-arg]  # generic in its stubs only, as are those below
    """Slices here: the queryset of an inline is still filtered by its user, which a slice would not let happen."""

    def get_queryset(self) -> QuerySet[ScoreEvent]:
        if not hasattr(self, "_newest"):
            self._newest = super().get_queryset()[:NEWEST_EVENTS]
        return self._newest


class EventsInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = ScoreEvent
    formset = NewestEvents
    fields = ["seq", "kind", "points", "total", "actor", "reason", "idempotency_key", "created_at"]
    ordering = ["-seq"]
    show_change_link = True
    verbose_name_plural = f"newest {NEWEST_EVENTS} events"


@admin.register(UserScore)
class UserScoreAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["user_id", "score", "rank", "on_the_board", "updated_at"]
    list_filter = [StateFilter, ScoreFilter, ActivityFilter]
    list_per_page = 50
    fields = ["user_id", "rank", "score", "state", "updated_at", "score_over_time"]
    inlines = [EventsInline]
    ordering = ["-score", "-user_id"]  # the board's own, which has an index
    sortable_by = ["user_id", "score"]  # what else one could sort by has none
    search_fields = ["user_id"]  # shows the box; see `get_search_results`
    search_help_text = (
        "The beginning of a user id, in its upper and lower case. "
        f"Of more than {MAX_LISTED} users, the first {MAX_LISTED} are listed."
    )
    empty_value_display = NOTHING
    actions = ["block_selected", "unblock_selected"]
    paginator = UserPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would count a million users

    class Media:
        css = {"all": ["scores/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ShownScore]:
        blocks = Block.objects.filter(user_id=OuterRef("user_id"))
        users = super().get_queryset(request).annotate(blocked=Exists(blocks))
        return cast("QuerySet[ShownScore]", users)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ShownScore], search_term: str
    ) -> tuple[QuerySet[ShownScore], bool]:
        """Whoever is called exactly so, then those whose ids begin so.

        Django's own search ignores case (`UPPER(user_id) LIKE …`) and reads the whole table; this is a range of the key.
        """
        if not search_term:
            return queryset, False
        exact_first = Case(When(user_id=search_term, then=Value(0)), default=Value(1))
        found = queryset.filter(user_id__startswith=search_term)
        return found.order_by(exact_first, *queryset.query.order_by), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Standings

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ShownScore | None:
        if "\0" in object_id:  # which PostgreSQL answers with an error instead of with nobody
            return None
        user: ShownScore | None = super().get_object(request, object_id, from_field)
        if user is not None:
            place([user])
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
        """On the page of a user: where they are, and if off the board, why."""
        if not user.blocked:
            return "On the board"
        block = ScoreEvent.objects.filter(seq__in=Block.objects.filter(user_id=user.user_id).values("seq")).first()
        if block is None:  # unblocked a moment ago
            return "On the board"
        page = reverse("admin:scores_scoreevent_change", args=[block.seq])
        return format_html('Blocked by {} in <a href="{}">event {}</a>: {}', block.actor, page, block.seq, block.reason)

    @admin.display
    def score_over_time(self, user: ShownScore) -> SafeString | None:
        return chart(list(ScoreEvent.objects.filter(user=user.user_id).order_by("-seq")[:NEWEST]))

    # Permissions, each of which is worth nothing without a look at the users

    def has_correct_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "correct")

    def has_block_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "block")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "export")

    def _may(self, request: HttpRequest, what: str) -> bool:
        return self.has_view_permission(request) and request.user.has_perm(f"scores.{what}_userscore")

    # Acts

    def get_urls(self) -> list[Any]:
        acts = [
            path(f"{name}/", self.admin_site.admin_view(self.act_view), {"name": name}, name=f"scores_userscore_{name}")
            for name in MODERATIONS
        ]
        export = path("export/", self.admin_site.admin_view(self.export_view), name="scores_userscore_export")
        return [*acts, export, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"title": "Users", "may_export": self.has_export_permission(request)}
        return super().changelist_view(request, context | (extra_context or {}))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        user: ShownScore = context["original"]
        fitting = ["unblock"] if user.blocked else ["correct", "block"]  # a hidden score is not corrected
        context["acts"] = [
            (name.capitalize(), reverse(f"admin:scores_userscore_{name}", query={"user": user.user_id}))
            for name in fitting
            if self._may(request, MODERATIONS[name].permission)
        ]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description="Block the selected users …", permissions=["block"])
    def block_selected(self, request: HttpRequest, users: QuerySet[ShownScore]) -> HttpResponse | None:
        return self._selected(request, MODERATIONS["block"], users)

    @admin.action(description="Unblock the selected users …", permissions=["block"])
    def unblock_selected(self, request: HttpRequest, users: QuerySet[ShownScore]) -> HttpResponse | None:
        return self._selected(request, MODERATIONS["unblock"], users)

    def _selected(self, request: HttpRequest, act: Moderation, users: QuerySet[ShownScore]) -> HttpResponse | None:
        chosen = list(users[: MAX_AT_ONCE + 1])
        if len(chosen) > MAX_AT_ONCE:
            self.message_user(request, f"At most {MAX_AT_ONCE} users at once.", messages.ERROR)
            return None
        return self._confirmation(request, act, chosen, act.form())

    def act_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask for a reason, and with it act. The users are in `user`, in the query string or the body."""
        act = MODERATIONS[name]
        if not self._may(request, act.permission):
            raise PermissionDenied
        user_ids = (request.POST if request.method == "POST" else request.GET).getlist("user")
        users = self._known(request, user_ids)
        if not users or len(users) > (1 if name == "correct" else MAX_AT_ONCE):
            raise Http404
        form = act.form(request.POST) if request.method == "POST" else act.form(initial={"total": users[0].score})
        if not form.is_valid():
            return self._confirmation(request, act, users, form)
        outcomes = carry_out(
            act,
            [user.user_id for user in users],
            actor=request.user.get_username(),
            details=form.cleaned_data,
        )
        self._tell(request, act, users, outcomes, form.cleaned_data["reason"])
        return HttpResponseRedirect(self._back(request, users))

    def _known(self, request: HttpRequest, user_ids: Sequence[str]) -> list[ShownScore]:
        """Those of `user_ids` who have a score, in the order of the board."""
        known = self.get_queryset(request).filter(user_id__in=[user_id for user_id in user_ids if is_user_id(user_id)])
        return list(known.order_by(*self.ordering))

    def _confirmation(
        self, request: HttpRequest, act: Moderation, users: Sequence[ShownScore], form: ReasonForm
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{act.name.capitalize()} {users[0].user_id if len(users) == 1 else f'{len(users)} users'}",
            "opts": self.opts,
            "act": act,
            "users": users,
            "form": form,
            "media": self.media,
            "action": self._with_filters(request, reverse(f"admin:scores_userscore_{act.name}")),
            "back": self._back(request, users),
        }
        return TemplateResponse(request, "admin/scores/userscore/act.html", context)

    def _back(self, request: HttpRequest, users: Sequence[ShownScore]) -> str:
        """The page of a lone user, where their new event is; else the list as it was."""
        if len(users) == 1:
            page = reverse("admin:scores_userscore_change", args=[quote(users[0].user_id)])
        else:
            page = reverse("admin:scores_userscore_changelist")
        return self._with_filters(request, page)

    def _with_filters(self, request: HttpRequest, url: str) -> str:
        """`url` with what the list was narrowed down by, which it will be again on the way back."""
        context: Any = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        return add_preserved_filters(context, url)

    def _tell(
        self,
        request: HttpRequest,
        act: Moderation,
        users: Sequence[ShownScore],
        outcomes: Sequence[Outcome],
        reason: str,
    ) -> None:
        """Say what became of each, and keep in the admin's own log what happened."""
        done = 0
        for user, outcome in zip(users, outcomes, strict=True):
            if outcome.recorded is None:
                self.message_user(request, outcome.failure, messages.ERROR)
                continue
            done += 1
            event = f"in event {outcome.recorded.seq}"
            if act.name == "correct":
                # What it was before is in the event: the score shown here may be older.
                event = f"to {outcome.recorded.total} {event}"
            self.log_change(request, user, f"{act.past.capitalize()} {event}: {reason}")
            if len(users) == 1:
                self.message_user(request, f"{user.user_id} was {act.past} {event}.", messages.SUCCESS)
        if len(users) > 1 and done:
            self.message_user(request, f"{done} user{'s were' if done > 1 else ' was'} {act.past}.", messages.SUCCESS)

    # Export

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The list as it is searched and filtered, all of it."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        try:
            users = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:  # as the list itself answers to a filter that is none
            return HttpResponseRedirect(f"{reverse('admin:scores_userscore_changelist')}?{ERROR_FLAG}=1")
        LogEntry.objects.create(
            user_id=cast("int", request.user.pk),
            content_type=ContentType.objects.get_for_model(UserScore),
            object_repr="the list of users",
            action_flag=CHANGE,
            change_message=f"Exported {request.GET.urlencode() or 'everybody'}",
        )
        name = f"users-{timezone.now():%Y%m%d-%H%M%S}.csv"
        return StreamingHttpResponse(
            streamed(users),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
        )
