"""Voids in the admin: of one event, or of all that a user or an actor did since a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.widgets import AdminSplitDateTime
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from scores import services
from scores.exceptions import Unavailable
from scores.log.ledger import Recorded
from scores.models import ScoreEvent
from scores.user_id import is_storable

from .moderation import ReasonForm

LIST = "admin:scores_scoreevent_changelist"
MAX_S = 1.0  # of one request; what is left then is done by the next


class SinceForm(ReasonForm):
    since = forms.SplitDateTimeField(
        widget=AdminSplitDateTime, help_text="In UTC. Whatever was written at this moment or later is taken back."
    )
    field_order = ["since", "reason"]


@dataclass(frozen=True)
class Target:
    """Whose events a page is about: exactly one of them is set."""

    event: ScoreEvent | None
    user_id: str
    actor: str

    @property
    def title(self) -> str:
        if self.event:
            return f"Void event {self.event.seq} of {self.event.user_id}"
        return f"Void events of {self.user_id}" if self.user_id else f"Void events by {self.actor}"


def target_of(parameters: Any) -> Target:
    """By `event`, `user` or `actor` of the query string or the body. Raises `Http404`."""
    seq, user_id, actor = (parameters.get(name, "") for name in ("event", "user", "actor"))
    if seq:
        event = ScoreEvent.objects.filter(seq=int(seq)).first() if seq.isdecimal() and len(seq) < 19 else None
        if event is not None:
            return Target(event, "", "")
    elif is_storable(user_id) != is_storable(actor):
        return Target(None, user_id, actor)
    raise Http404


def void_view(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Ask for a reason, then void. A run that takes long shows how far it is, and goes on when it is sent again."""
    if not request.user.has_perm("scores.void_scoreevent"):
        raise PermissionDenied
    target = target_of(request.POST if request.method == "POST" else request.GET)
    kind = ReasonForm if target.event else SinceForm
    form = kind(request.POST if request.method == "POST" else None)
    progress: services.VoidProgress | None = None
    if form.is_valid():
        if target.event:
            _void_one(request, target.event, form.cleaned_data["reason"])
            return HttpResponseRedirect(reverse("admin:scores_scoreevent_change", args=[target.event.seq]))
        progress = _void_some(request, target, form.cleaned_data["since"], form.cleaned_data["reason"])
        if progress is not None and progress.seen >= progress.last:
            return HttpResponseRedirect(reverse(LIST))
    context |= {
        "title": target.title,
        "target": target,
        "form": form,
        "media": context["media"] + form.media,
        "progress": progress,
        "back": reverse(LIST),
        "button": "Continue" if progress else "Void",
    }
    return TemplateResponse(request, "admin/scores/scoreevent/void.html", context)


def _void_one(request: HttpRequest, event: ScoreEvent, reason: str) -> None:
    (outcome,) = services.void_each([event.seq], actor=request.user.get_username(), reason=reason)
    if isinstance(outcome, Recorded):
        _note(request, f"event {event.seq}", f"Voided in event {outcome.seq}: {reason}")
        messages.success(request, f"Event {event.seq} was voided in event {outcome.seq}.")
    elif isinstance(outcome, Unavailable):
        messages.error(request, "The database did not confirm in time. Look at the newest events before you try again.")
    else:
        messages.error(request, f"Event {event.seq} was not voided: {outcome}")


def _void_some(request: HttpRequest, target: Target, since: datetime, reason: str) -> services.VoidProgress | None:
    """As many as there is time for; `None` if the database does not answer."""
    until = time.monotonic() + MAX_S
    progress = services.VoidProgress(0, 0, 0, 0)
    try:
        run = services.void_since(
            since=since,
            actor=request.user.get_username(),
            reason=reason,
            user_id=target.user_id,
            of_actor=target.actor,
        )
        while (step := next(run, None)) is not None:
            progress = step
            if time.monotonic() > until:
                break
    except (Unavailable, DatabaseError):
        messages.error(request, "The database did not confirm in time. What was voided stays so: try again.")
        return None
    finally:
        if progress.voided:
            whose = f"events of {target.user_id}" if target.user_id else f"events by {target.actor}"
            _note(request, whose, f"Voided {progress.voided} since {since.isoformat()}: {reason}")
    told = f"{progress.voided:,} events were voided" if progress.voided != 1 else "1 event was voided"
    messages.success(request, f"{told}.")
    return progress


def _note(request: HttpRequest, what: str, message: str) -> None:
    """In the admin's own log."""
    LogEntry.objects.create(
        user_id=cast("int", request.user.pk),
        content_type=ContentType.objects.get_for_model(ScoreEvent),
        object_repr=what[:200],
        action_flag=CHANGE,
        change_message=message,
    )
