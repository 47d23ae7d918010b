"""Who may no longer ask, though their token is valid: the blocked, and those whose accounts are deactivated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import Error as DatabaseError

from scores.exceptions import Refused, Unavailable, UserBlocked, UserInactive
from scores.stores.batcher import Batcher
from scores.stores.breaker import Breaker

from .head import log

# One statement, so that the writer pays for one. The names of deactivated accounts have an index of their own, which is
# as good as empty: see migration 0005.
REFUSED_SQL = """
    SELECT user_id, false FROM blocks WHERE user_id = ANY(%s)
    UNION ALL SELECT username, true FROM auth_user WHERE username = ANY(%s) AND NOT is_active
"""


def split(rows: Iterable[tuple[str, bool]]) -> tuple[set[str], frozenset[str]]:
    """The blocked and the deactivated among the rows of `REFUSED_SQL`."""
    blocked: set[str] = set()
    inactive: set[str] = set()
    for user_id, is_inactive in rows:
        (inactive if is_inactive else blocked).add(user_id)
    return blocked, frozenset(inactive)


# Readers ask in a lane of their own: theirs must not stand still with a database that does, while Redis could answer.
breaker = Breaker()


async def admit(user_id: str) -> None:
    """Raise `UserInactive` or `UserBlocked` for whoever may not ask.

    For reads: what a caller reads of themselves is public, so while the database does not say they are let in. A write
    is decided in its own transaction.
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
    """Why each of `user_ids` may not ask; `None` for those who may."""
    asked = list(set(user_ids))
    connection = log.connection
    try:
        with connection.cursor() as cursor:
            cursor.execute(REFUSED_SQL, [asked, asked])
            blocked, inactive = split(cursor.fetchall())
    except DatabaseError:
        connection.close()
        raise
    return [UserInactive if user in inactive else UserBlocked if user in blocked else None for user in user_ids]


batcher: Batcher[str, type[Refused] | None] = Batcher(
    "refusals", refusals_of, max_batch=256, max_queued=20_000, timeout_s=0.5
)
