"""/healthz/deep, for administrators: asks every store and reports how long each took to answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.db import Error as DatabaseError
from redis.exceptions import RedisError
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from realtime.hub import hub
from realtime.socket_limits import socket_limits
from scores.access.authentication import Principal, TokenAuthentication
from scores.exceptions import CopyUnusable, RedisAway
from scores.log.head import log
from scores.log.writer import writer
from scores.projection.leaderboard import leaderboard
from scores.projection.tail import copy_fault, tail
from scores.stores import permissions
from scores.stores.redis import Unfit, breaker, check_writes, client, in_cluster

from . import pending_migrations
from .drain import drain

FAILURES = (DatabaseError, RedisError, CopyUnusable, OSError)


class IsStaff(BasePermission):
    """Admits a session of the admin, or an access token issued here of a user who may enter the admin.

    A subject of the identity provider is nobody with an account here, even with the name of an administrator.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        user: Any = request.user
        if isinstance(user, Principal):
            if user.is_foreign or user.is_service:
                return False
            staff = get_user_model().objects.filter(username=user.user_id, is_active=True, is_staff=True)
            return staff.exists()
        return bool(user and user.is_staff)


class CheckupView(APIView):
    """200 if every store answers and the copy is whole, else 503; each part says what it found, in how many ms."""

    schema = None  # an address for operators, not part of the API

    authentication_classes = (TokenAuthentication, SessionAuthentication)
    permission_classes = (IsStaff,)

    def get(self, request: Request) -> Response:
        parts = {
            "database": examined(database),
            "writer": examined(recording),
            "redis": examined(redis),
            "group": examined(group),
            "copy": examined(copy),
            "hub": examined(hub_tasks),
        }
        process = {
            "id": os.getpid(),
            "draining": drain.begun,
            "sockets": socket_limits.taken,
            "tail_age_s": round(tail.age_s, 2),
        }
        well = all(part["status"] == "ok" for part in parts.values())
        body = {"status": "ok" if well else "ill", **parts, "process": process}
        return Response(body, status=200 if well else 503, headers={"Cache-Control": "no-store"})


def examined(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        found = {"status": "ok"} | part()
    except FAILURES as error:
        found = {"status": "ill", "error": type(error).__name__} | reason(error)
    return found | {"ms": round((time.perf_counter() - started) * 1000, 1)}


def reason(error: Exception) -> dict[str, str]:
    """What operators have to change, if that is known."""
    cause = error.__cause__ if isinstance(error, RedisAway) else error
    return {"reason": str(cause)} if isinstance(cause, Unfit) else {}


def database() -> dict[str, Any]:
    missing = pending_migrations.missing()
    return {"status": "ill", "missing_migrations": missing} if missing else {}


def recording() -> dict[str, Any]:
    """Whether the database recorded what this process last asked for: a full disk answers every question but that."""
    return {"status": "ill", "error": writer.outage.recent} if writer.outage.recent else {}


def redis() -> dict[str, Any]:
    # Through the bare client: an open breaker would not ask Redis, and its state is reported separately.
    rules = permissions.missing(client(), cluster=in_cluster())
    if rules:
        return {"status": "ill", "missing_permissions": rules, "reason": permissions.sentence(rules)}
    check_writes()
    return {"breaker": "open" if breaker.is_open else "closed", "mode": "cluster" if in_cluster() else "standalone"}


def group() -> dict[str, Any]:
    if hub.group_fault is not None:
        return {"status": "ill", "fault": hub.group_fault}
    layer: Any = get_channel_layer()
    async_to_sync(layer.group_send)("checkup", {"type": "checkup"})  # a group without members
    return {}


def hub_tasks() -> dict[str, Any]:
    return {"status": "ill", "fault": hub.fault} if hub.fault else {}


def copy() -> dict[str, Any]:
    state = leaderboard.state()
    head = log.head()
    fault = copy_fault(state, head)
    seqs = {"seq": state.seq if state else None, "log_seq": head.seq, "members": head.members}
    scrub = {"compared": tail.scrub.compared, "repaired": tail.scrub.repaired, "rounds": tail.scrub.rounds}
    return seqs | {"sweep": scrub} | ({"status": "ill", "fault": fault} if fault else {})
