"""Service tokens: issued, rotated and revoked. Each is a row, and the row decides (see `log.refusals`)."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

from django.db import transaction
from django.db.models import Case, Exists, OuterRef, QuerySet, Value, When
from django.db.models.functions import Concat, Least, Now

from .access.authentication import new_prefix, signed_service_token
from .models import Block, ServiceToken
from .scopes import Scope
from .user_id import SERVICE_NAME, SERVICE_PREFIX

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class Listed(TypedDict):
        state: str

    ListedToken = WithAnnotations[ServiceToken, Listed]

NAME_RULE = "1 to 64 of a-z, A-Z, 0-9 and _ . -"
MAX_DAYS = 3650
MAX_GRACE_MINUTES = 30 * 24 * 60


class TokenError(Exception):
    """The token cannot be issued, rotated or revoked; the message says why, for people."""


class Issued(NamedTuple):
    """A new token. `secret` is the whole of it, which nobody can read again."""

    row: ServiceToken
    secret: str


def issue(*, name: str, scopes: Collection[str], days: int, created_by: str) -> Issued:
    """A new token of the service `name`. Raises `TokenError`."""
    if not re.fullmatch(SERVICE_NAME, name):
        raise TokenError(f"The name of a service has {NAME_RULE}, and not {name!r}.")
    if not scopes:
        raise TokenError(f"A service token needs a scope: {', '.join(Scope)}.")
    if unknown := sorted(set(scopes) - set(Scope)):
        raise TokenError(f"Unknown scope {' '.join(unknown)}: expected {', '.join(Scope)}.")
    if not 1 <= days <= MAX_DAYS:
        raise TokenError(f"A token is good for 1 to {MAX_DAYS} days, and not for {days}.")
    row = ServiceToken(
        prefix=new_prefix(),
        name=name,
        scopes=" ".join(scope for scope in Scope if scope in scopes),
        created_by=created_by,
        expires_at=Now() + timedelta(days=days),  # by the database's clock, which decides when it has expired
    )
    row.save(force_insert=True)
    row.refresh_from_db()
    return Issued(row, signed_service_token(row.prefix, row.name, scope=row.scopes, expires_at=row.expires_at))


def rotate(prefix: str, *, days: int, grace_minutes: int, created_by: str) -> Issued:
    """A new token with the name and scopes of an active one, which ends after `grace_minutes`, or at once with 0.

    Raises `TokenError`.
    """
    if not 0 <= grace_minutes <= MAX_GRACE_MINUTES:
        raise TokenError(f"The grace is 0 to {MAX_GRACE_MINUTES} minutes, and not {grace_minutes}.")
    with transaction.atomic():
        old = _locked(prefix)
        issued = issue(name=old.name, scopes=old.scopes.split(), days=days, created_by=created_by)
        _active(prefix).update(
            **{"expires_at": Least("expires_at", Now() + timedelta(minutes=grace_minutes))}
            if grace_minutes
            else {"revoked_at": Now()}
        )
    return issued


def revoke(prefix: str) -> ServiceToken:
    """End the token at once, in every process. Raises `TokenError` if it is unknown or has ended already."""
    with transaction.atomic():
        token = _locked(prefix)
        _active(prefix).update(revoked_at=Now())
    return token


def _locked(prefix: str) -> ServiceToken:
    """The active token, locked, so that of two revocations at the same time one finds that it has ended."""
    token = _active(prefix).select_for_update().first() if "\0" not in prefix else None
    if token is None:
        raise TokenError(f"There is no active token {prefix!r}.")
    return token


def _active(prefix: str) -> QuerySet[ServiceToken]:
    return ServiceToken.objects.filter(prefix=prefix, revoked_at=None, expires_at__gt=Now())


def with_state(tokens: QuerySet[ServiceToken]) -> QuerySet[ListedToken]:
    """`tokens`, each with its `state`: how the next transaction would decide about it."""
    blocks = Block.objects.filter(user_id=Concat(Value(SERVICE_PREFIX), OuterRef("name")))
    state = Case(
        When(revoked_at__isnull=False, then=Value("revoked")),
        When(expires_at__lte=Now(), then=Value("expired")),
        When(Exists(blocks), then=Value("service blocked")),
        default=Value("active"),
    )
    return cast("QuerySet[ListedToken]", tokens.annotate(state=state))
