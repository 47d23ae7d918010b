"""Reads of the log: where it ends, and what came after a given event."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from scores.models import Block, ScoreEvent, UserScore

BOARD = "leaderboard"  # the name of the only row in `leaderboards`

# Where a log lives is part of which log it is: a database restored from a backup, or a promoted standby, continues on
# another timeline, and the copy in Redis may be ahead of it. Both functions are open to every role.
ORIGIN_SQL = """
    left(b.epoch::text, 8)
    || '-' || to_hex((SELECT system_identifier FROM pg_control_system()))
    || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
"""
HEAD_SQL = f"SELECT {ORIGIN_SQL}, b.seq, b.members FROM leaderboards b WHERE b.name = '{BOARD}'"  # noqa: S608  constants


class Head(NamedTuple):
    """The end of the log. `origin` names the log, `seq` its newest event, `members` the users on the board."""

    origin: str
    seq: int
    members: int


class MemberTotal(NamedTuple):
    """A user's place after an event: `total` is `None` when the event took them off the board."""

    seq: int
    user_id: str
    total: int | None


def head() -> Head:
    """The end of the log now; starts the log when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(HEAD_SQL)
        row = cursor.fetchone()
        if row is None:
            start()
            cursor.execute(HEAD_SQL)
            row = cursor.fetchone()
    return Head(*row)


def start() -> None:
    """Make the board's row, under a new epoch, unless somebody else just did."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO leaderboards (name, epoch, seq, members) VALUES (%s, gen_random_uuid(), 0, 0) ON CONFLICT DO NOTHING",
            [BOARD],
        )


def totals_after(seq: int, *, limit: int) -> list[MemberTotal]:
    """The next `limit` events after `seq`, in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq, user_id, CASE WHEN kind <> 'block' THEN total END FROM score_events WHERE seq > %s ORDER BY seq LIMIT %s",
            [seq, limit],
        )
        return [MemberTotal(*row) for row in cursor.fetchall()]


@contextmanager
def snapshot() -> Iterator[Head]:
    """A read-only transaction that sees the truth as of one moment, the head it yields. The log must have been started."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield head()


@contextmanager
def turn_to_rebuild() -> Iterator[bool]:
    """Whether this process is the one to rebuild now. A process that dies gives its turn back with its connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext('leaderboard rebuild'))")
        (ours,) = cursor.fetchone()
    try:
        yield ours
    finally:
        if ours:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(hashtext('leaderboard rebuild'))")
            except DatabaseError:
                pass  # gone with the connection


def rebuild_under_way() -> bool:
    """Whether some process has the turn now. Looks at the locks instead of trying, which would keep others from theirs."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT EXISTS (
                SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                  AND l.objid = (hashtext('leaderboard rebuild')::bigint & 4294967295)::oid
            )
            """
        )
        (under_way,) = cursor.fetchone()
        return bool(under_way)


def locked_head() -> Head:
    """The end of the log, which stays the end until the transaction does. Nobody waits long for it, nor for us."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', '1000', true)")
        cursor.execute(f"{HEAD_SQL} FOR UPDATE OF b")
        return Head(*cursor.fetchone())


def touched_after(seq: int, user_ids: Collection[str]) -> set[str]:
    """Those of `user_ids` who have an event after `seq`."""
    events = ScoreEvent.objects.filter(seq__gt=seq, user_id__in=user_ids)
    return set(events.values_list("user_id", flat=True))


def visible() -> QuerySet[UserScore]:
    """Everyone on the board."""
    return UserScore.objects.filter(~Exists(Block.objects.filter(user_id=OuterRef("user_id"))))


def visible_totals(*, chunk: int) -> Iterator[tuple[str, int]]:
    """Everyone on the board with their total, streamed `chunk` rows at a time, in no order. Wants a `snapshot`."""
    return visible().values_list("user_id", "score").iterator(chunk_size=chunk)


def visible_totals_from(after: str, *, limit: int) -> list[tuple[str, int]]:
    """The next `limit` on the board after user id `after`, with their totals, in the order of their ids."""
    return list(visible().filter(user_id__gt=after).order_by("user_id").values_list("user_id", "score")[:limit])
