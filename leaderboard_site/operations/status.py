"""The status page of the admin: how far the log and the copy are, which processes serve, and a button to rebuild."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required
from django.contrib.contenttypes.models import ContentType
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_POST, require_safe

from scores import selectors, signals
from scores.exceptions import CopyUnusable, NoStoreAnswers, RedisAway
from scores.log.head import Head, log
from scores.models import Leaderboard
from scores.projection.leaderboard import PageQuestion, Rebuilt, State, leaderboard
from scores.projection.tail import copy_fault
from scores.selectors import Source
from scores.stores.redis import outage

from . import processes

logger = logging.getLogger(__name__)

NEWEST = 5  # rebuilds requested on this page


class CopyStatus(NamedTuple):
    """The copy in Redis beside the log. Without a state, the copy is missing or Redis is away."""

    state: State | None
    head: Head
    redis_away: bool

    @property
    def fault(self) -> str | None:
        return None if self.redis_away else copy_fault(self.state, self.head)

    @property
    def behind(self) -> int:
        return max(self.head.seq - self.state.seq, 0) if self.state else 0


@require_safe
@admin.site.admin_view
@permission_required("scores.view_leaderboard", raise_exception=True)
def status(request: HttpRequest) -> HttpResponse:
    """Shows the service as it is now. Figures of a single process are in the row of that process."""
    copy, rebuilt = copy_and_last_rebuild()
    known, all_asked = processes.everyone()
    under_way = log.rebuild_under_way()
    context = {
        **admin.site.each_context(request),
        "title": "Status",
        "copy": copy,
        "to_mend": outage.to_mend if copy.redis_away else None,
        "source": source(),
        "rebuilt": rebuilt,
        "rebuilt_at": datetime.fromtimestamp(rebuilt.at, UTC) if rebuilt else None,
        "under_way": under_way,
        "requests": LogEntry.objects.filter(content_type=of_board()).select_related("user")[:NEWEST],
        "processes": [(process, datetime.fromtimestamp(process.started_at, UTC)) for process in known],
        "all_asked": all_asked,
        "sockets": sum(process.sockets for process in known),
        "here": processes.reporter.here().name,
        "may_rebuild": request.user.has_perm("scores.rebuild_leaderboard"),
    }
    # While a rebuild is under way, the page reloads itself.
    headers = {"Cache-Control": "no-store"} | ({"Refresh": "2"} if under_way else {})
    return TemplateResponse(request, "admin/status.html", context, headers=headers)


@require_POST
@admin.site.admin_view
@permission_required("scores.rebuild_leaderboard", raise_exception=True)
def rebuild(request: HttpRequest) -> HttpResponse:
    """Starts a rebuild, unless one is under way. The admin's log, shown on the status page, says how it ended."""
    if log.rebuild_under_way():
        messages.warning(request, "A rebuild is already under way.")
    else:
        user = request.user
        work = threading.Thread(target=rebuild_for, args=(user.pk, user.get_username()), name="rebuild", daemon=True)
        work.start()
        messages.info(request, "The rebuild has started. Readers see the old copy until the new one replaces it.")
    return redirect("status")


def rebuild_for(user_pk: Any, username: str) -> None:
    """Rebuilds the copy. For a thread: a million members take longer than a request should."""
    started = time.monotonic()
    try:
        with log.try_rebuild_lock() as acquired:
            if acquired:
                head = leaderboard.rebuild(why=f"{username} asked for it", force=True)
                signals.leaderboard_changed.send_robust(sender=Leaderboard, origin=head.origin, seq=head.seq)
                took_s = time.monotonic() - started
                outcome = f"Rebuilt {head.members} members at event {head.seq} in {took_s:.2f} s"
            else:
                outcome = "Rebuilt nothing: another process is rebuilding"
    except (CopyUnusable, DatabaseError) as error:
        outcome = f"Could not rebuild: {str(error).strip()}"
        logger.warning("%s asked for a rebuild, which failed: %s", username, error)
        connection.close()
    try:
        LogEntry.objects.create(
            user_id=user_pk,
            content_type=of_board(),
            object_id=log.name,
            object_repr="the copy in Redis",
            action_flag=CHANGE,
            change_message=outcome,
        )
    except DatabaseError as error:
        logger.warning("Could not write to the admin's log: %s, by %s (%s)", outcome, username, str(error).strip())
    finally:
        connection.close()


def copy_and_last_rebuild() -> tuple[CopyStatus, Rebuilt | None]:
    """The copy, the log, and the last rebuild. The copy is read first: the log only grows, and must not seem behind."""
    try:
        state, rebuilt = leaderboard.state(), leaderboard.last_rebuild()
    except RedisAway:
        return CopyStatus(None, log.head(), redis_away=True), None
    return CopyStatus(state, log.head(), redis_away=False), rebuilt


def source() -> Source | None:
    """The store that a read now comes from; `None` if no store answers."""
    try:
        (page,) = selectors.reader.answer_questions([PageQuestion(1, 0)])
    except NoStoreAnswers:
        return None
    return page.source


def of_board() -> ContentType:
    return ContentType.objects.get_for_model(Leaderboard)
