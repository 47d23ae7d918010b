"""Who is refused although the token is valid: blocked users, ended accounts, and service tokens that were revoked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from django.db import Error as DatabaseError

from scores.exceptions import Refused, TokenRevoked, Unavailable, UserBlocked, UserInactive
from scores.stores.batcher import Batcher
from scores.stores.breaker import Breaker

from .arrays import texts
from .head import log

# One statement, so that the writer pays for one; `parameters` makes its parameters. The names of deactivated accounts
# have a separate, nearly empty index (see migration 0005), those of deleted ones a table. Of tokens it finds the good ones: a token without a row
# is refused as well, and an anti-join would cost twice the rest, since PostgreSQL would plan it anew each time. `now()`
# is from before the wait for the writers' lock, in which a token may expire.
REFUSED_SQL = """
    SELECT user_id, 'blocked' FROM blocks WHERE user_id = ANY(%(names)s::text[])
    UNION ALL SELECT username, 'inactive' FROM auth_user WHERE username = ANY(%(users)s::text[]) AND NOT is_active
    UNION ALL SELECT username, 'inactive' FROM ended_accounts WHERE username = ANY(%(users)s::text[])
    UNION ALL SELECT prefix, 'good' FROM service_tokens
    WHERE prefix = ANY(%(tokens)s::text[]) AND revoked_at IS NULL AND expires_at > clock_timestamp()
"""


class Refusals(NamedTuple):
    """The refused ones among those that were asked for."""

    blocked: set[str]  # users and services
    inactive: frozenset[str]  # users
    revoked: frozenset[str]  # prefixes of service tokens


def parameters(users: Collection[str], actors: Collection[str], tokens: Collection[str]) -> dict[str, str]:
    """The parameters of `REFUSED_SQL`: users, services that act for them, and prefixes of their tokens."""
    ordered = sorted(users)
    accounts = texts(ordered)
    # An account says nothing about a service of the same name.
    names = texts(sorted({*ordered, *actors})) if actors else accounts
    return {"names": names, "users": accounts, "tokens": texts(sorted(tokens))}


def split(rows: Iterable[tuple[str, str]], tokens: Collection[str]) -> Refusals:
    """The refused ones by the rows of `REFUSED_SQL`, which was asked for `tokens`."""
    found: dict[str, set[str]] = {"blocked": set(), "inactive": set(), "good": set()}
    for who, what in rows:
        found[what].add(who)
    return Refusals(found["blocked"], frozenset(found["inactive"]), frozenset(tokens) - found["good"])


# These checks have their own batcher: if the database hangs, reads that Redis can answer must not wait for it.
breaker = Breaker()


async def admit(user_id: str, token: str = "") -> None:
    """Raise `TokenRevoked`, `UserInactive` or `UserBlocked` if the user, or the service with this token, is refused.

    For reads: what users read about themselves is public, so they are admitted while the database does not answer. A
    write decides this again in its own transaction.
    """
    if not breaker.admits():
        return
    try:
        refusal = await batcher.submit((user_id, token))
    except (Unavailable, DatabaseError):
        breaker.failed()
        return
    breaker.succeeded()
    if refusal is not None:
        raise refusal()


def refusals_of(callers: Sequence[tuple[str, str]]) -> list[type[Refused] | None]:
    """The refusal of each caller, a user and the prefix of the token, if any; `None` for those who are not refused."""
    tokens = {token for _, token in callers if token}
    connection = log.connection
    try:
        with connection.cursor() as cursor:
            cursor.execute(REFUSED_SQL, parameters({user for user, _ in callers}, (), tokens))
            blocked, inactive, revoked = split(cursor.fetchall(), tokens)
    except DatabaseError:
        connection.close()
        raise
    return [
        TokenRevoked
        if token in revoked
        else UserInactive
        if user in inactive
        else UserBlocked
        if user in blocked
        else None
        for user, token in callers
    ]


batcher: Batcher[tuple[str, str], type[Refused] | None] = Batcher(
    "refusals", refusals_of, max_batch=256, max_queued=20_000, timeout_s=0.5
)
