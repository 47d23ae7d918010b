"""Which users are refused although their token is valid: blocked users, and users whose accounts are deactivated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import Error as DatabaseError

from scores.exceptions import Refused, Unavailable, UserBlocked, UserInactive
from scores.stores.batcher import Batcher
from scores.stores.breaker import Breaker

from .head import log

# One statement, so that the writer pays for one. The names of deactivated accounts have a separate, nearly empty index:
# see migration 0005.
REFUSED_SQL = """
    SELECT user_id, false FROM blocks WHERE user_id = ANY(%s)
    UNION ALL SELECT username, true FROM auth_user WHERE username = ANY(%s) AND NOT is_active
"""


def split(rows: Iterable[tuple[str, bool]]) -> tuple[set[str], frozenset[str]]:
    """The blocked and the deactivated users among the rows of `REFUSED_SQL`."""
    blocked: set[str] = set()
    inactive: set[str] = set()
    for user_id, is_inactive in rows:
        (inactive if is_inactive else blocked).add(user_id)
    return blocked, frozenset(inactive)


# These checks have their own batcher: if the database hangs, reads that Redis can answer must not wait for it.
breaker = Breaker()


async def admit(user_id: str) -> None:
    """Raise `UserInactive` or `UserBlocked` if the user is refused.

    For reads: what users read about themselves is public, so they are admitted while the database does not answer. A
    write decides this again in its own transaction.
    """
    if not breaker.admits():
        return
    try:
        refusal = await batcher.submit(user_id)
    except (Unavailable, DatabaseError):
        breaker.failed()
        return
    breaker.succeeded()
    if refusal is not None:
        raise refusal()


def refusals_of(user_ids: Sequence[str]) -> list[type[Refused] | None]:
    """The refusal of each of `user_ids`; `None` for users who are not refused."""
    distinct = list(set(user_ids))
    connection = log.connection
    try:
        with connection.cursor() as cursor:
            cursor.execute(REFUSED_SQL, [distinct, distinct])
            blocked, inactive = split(cursor.fetchall())
    except DatabaseError:
        connection.close()
        raise
    return [UserInactive if user in inactive else UserBlocked if user in blocked else None for user in user_ids]


batcher: Batcher[str, type[Refused] | None] = Batcher(
    "refusals", refusals_of, max_batch=256, max_queued=20_000, timeout_s=0.5
)
