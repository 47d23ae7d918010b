"""Refusals of queued entries, kept for a day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.db import connection

from scores.exceptions import RefusedBefore, ScoreError
from scores.log.arrays import texts

SAVE_SQL = """
    INSERT INTO queued_refusals (user_id, key, place, code, detail, retry_after_s)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[])
    ON CONFLICT (user_id, key) DO UPDATE SET (place, code, detail, retry_after_s, at) =
        ROW (excluded.place, excluded.code, excluded.detail, excluded.retry_after_s, now())
"""
KNOWN_SQL = """
    SELECT r.user_id, r.key, r.place, r.code, r.detail, r.retry_after_s
    FROM unnest(%s::text[], %s::text[]) AS wanted (user_id, key) JOIN queued_refusals r USING (user_id, key)
"""


class Refusal(NamedTuple):
    """An entry by its user and key, the place of its message, and why."""

    user_id: str
    key: str
    place: str
    error: ScoreError


def save(refusals: Sequence[Refusal]) -> None:
    """Keep them, durably. Of several with one key the last."""
    rows = {
        (r.user_id, r.key): (r.place, r.error.code, str(r.error), getattr(r.error, "retry_after_s", None))
        for r in refusals
    }
    if rows:
        columns = [*zip(*rows, strict=True), *zip(*rows.values(), strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(SAVE_SQL, [list(column) for column in columns])


def known(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, RefusedBefore]]:
    """The places and refusals of those of `keys`, users and keys, that were refused within a day."""
    if not keys:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(KNOWN_SQL, [*map(texts, zip(*keys, strict=True))])
        return {(user, key): (place, RefusedBefore(*error)) for user, key, place, *error in cursor.fetchall()}
