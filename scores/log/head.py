"""The log for its readers: where it ends, which events follow a given one, and the totals they add up to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, OuterRef, QuerySet

from scores.models import Block, ScoreEvent, UserScore

# The identity of a log includes the database it lives in: a database restored from a backup, or a promoted standby,
# continues on another timeline, and the copy in Redis may be ahead of it. Every role may call both functions.
ORIGIN_SQL = """
    left(b.epoch::text, 8)
    || '-' || to_hex((SELECT system_identifier FROM pg_control_system()))
    || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
"""
HEAD_SQL = f"SELECT {ORIGIN_SQL}, b.seq, b.members FROM leaderboards b WHERE b.name = %s"  # noqa: S608  constants


class Head(NamedTuple):
    """The end of the log. `origin` names the log, `seq` its newest event, `members` the users on the board."""

    origin: str
    seq: int
    members: int


class MemberTotal(NamedTuple):
    """A user's total after an event; `None` when the event took them off the board."""

    seq: int
    user_id: str
    total: int | None


class Log:
    """The log of one database: row `name` of table `leaderboards` is the head, `score_events` are the events.

    Everything that works on a log (`Writer`, `RankIndexer`, `Copy`, `Tail`) takes it as an argument, so that a process
    can have a second one. A seq means nothing without its log, and no transaction spans two logs.
    """

    def __init__(self, name: str, *, alias: str = DEFAULT_DB_ALIAS) -> None:
        self.name = name
        self.alias = alias  # in DATABASES

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's connection to the log's database."""
        return connections[self.alias]

    def head(self) -> Head:
        """The current end of the log; starts the log if there is none."""
        with self.connection.cursor() as cursor:
            cursor.execute(HEAD_SQL, [self.name])
            row = cursor.fetchone()
            if row is None:
                self.start()
                cursor.execute(HEAD_SQL, [self.name])
                row = cursor.fetchone()
        return Head(*row)

    def start(self) -> None:
        """Create the head with a new epoch, unless another process has just done so."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO leaderboards (name, epoch, seq, members) VALUES (%s, gen_random_uuid(), 0, 0) "
                "ON CONFLICT DO NOTHING",
                [self.name],
            )

    def totals_after(self, seq: int, *, limit: int) -> list[MemberTotal]:
        """The totals of their users after each of the next `limit` events after `seq`, in order."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT seq, user_id, CASE WHEN kind <> 'block' THEN total END FROM score_events "
                "WHERE seq > %s ORDER BY seq LIMIT %s",
                [seq, limit],
            )
            return [MemberTotal(*row) for row in cursor.fetchall()]

    @contextmanager
    def snapshot(self) -> Iterator[Head]:
        """A read-only transaction that sees the tables as of the head it yields. The log must have been started."""
        with transaction.atomic(using=self.alias):
            with self.connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield self.head()

    @contextmanager
    def try_rebuild_lock(self) -> Iterator[bool]:
        """Yield whether this process got the rebuild lock; never waits. A dead process loses it with its connection."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [self._rebuild_lock])
            (acquired,) = cursor.fetchone()
        try:
            yield acquired
        finally:
            if acquired:
                try:
                    with self.connection.cursor() as cursor:
                        cursor.execute("SELECT pg_advisory_unlock(hashtext(%s))", [self._rebuild_lock])
                except DatabaseError:
                    pass  # the connection is lost, and the lock with it

    @property
    def _rebuild_lock(self) -> str:
        return f"{self.name} rebuild"

    def rebuild_under_way(self) -> bool:
        """Whether a process holds the rebuild lock. Reads `pg_locks`: trying it could make another process miss it."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT EXISTS (
                    SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                      AND l.objid = (hashtext(%s)::bigint & 4294967295)::oid
                )
                """,
                [self._rebuild_lock],
            )
            (under_way,) = cursor.fetchone()
            return bool(under_way)

    def locked_head(self) -> Head:
        """The end of the log, locked until the transaction ends. Waits at most 1 s for the lock.

        If this process stops while it holds the lock, the server ends the transaction after 1 s: writers must not wait
        for a process that compares the copy.
        """
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('lock_timeout', '1000', true), "
                "set_config('idle_in_transaction_session_timeout', '1000', true)"
            )
            cursor.execute(f"{HEAD_SQL} FOR UPDATE OF b", [self.name])
            return Head(*cursor.fetchone())

    def touched_after(self, seq: int, user_ids: Collection[str]) -> set[str]:
        """Those of `user_ids` who have an event after `seq`."""
        events = ScoreEvent.objects.using(self.alias).filter(seq__gt=seq, user_id__in=user_ids)
        return set(events.values_list("user_id", flat=True))

    def visible(self) -> QuerySet[UserScore]:
        """All members of the board."""
        blocks = Block.objects.filter(user_id=OuterRef("user_id"))
        return UserScore.objects.using(self.alias).filter(~Exists(blocks))

    def visible_totals(self, *, chunk: int) -> Iterator[tuple[str, int]]:
        """All members with their totals, streamed `chunk` rows at a time, in no order. Call it within a `snapshot`."""
        return self.visible().values_list("user_id", "score").iterator(chunk_size=chunk)

    def visible_totals_from(self, after: str, *, limit: int) -> list[tuple[str, int]]:
        """The next `limit` members after user id `after`, with their totals, ordered by user id."""
        rows = self.visible().filter(user_id__gt=after).order_by("user_id")
        return list(rows.values_list("user_id", "score")[:limit])


log = Log("leaderboard")
