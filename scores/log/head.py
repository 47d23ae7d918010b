"""The log for its readers: where it ends, which events follow a given one, and the totals they add up to."""

from __future__ import annotations

import logging
import math
import select
import time
from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple, cast

import psycopg
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, ProgrammingError, connections, transaction
from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, OuterRef, QuerySet

from scores.exceptions import Damaged
from scores.models import Block, ScoreEvent, UserScore
from scores.user_id import SERVICE_PREFIX

logger = logging.getLogger(__name__)

# Where the database is in its write-ahead log: a promoted standby, or a database restored from a backup, continues on
# another timeline. Every role may call these functions, unless somebody took the right away or the provider has none.
WAL_SQL = """
    to_hex((SELECT system_identifier FROM pg_control_system()))
    || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
"""
MAY_SEE_WAL_SQL = """
    SELECT bool_and(has_function_privilege(name, 'EXECUTE'))
    FROM unnest(ARRAY['pg_control_system()', 'pg_walfile_name(pg_lsn)', 'pg_current_wal_lsn()']) AS name
"""
REBUILD_LOCK_S = 300  # a rebuild of two million members takes a minute
LOOK_AT_WAL_EVERY_S = 5.0  # while this role may not see it: all processes must agree on the origin soon after a GRANT
# When an event was written, in microseconds. All events of one transaction have the same.
MARK_SQL = "CASE WHEN isfinite({0}) THEN (extract(epoch FROM {0}) * 1000000)::bigint ELSE 1 END"
EVENT_MARK_SQL = f"(SELECT {MARK_SQL.format('e.created_at')} FROM score_events e WHERE e.seq = {{}})"  # noqa: S608


LAST_SEQ_SQL = "SELECT coalesce(max(seq), 0) FROM score_events"
MEMBERS_SQL = """
    SELECT count(*) FROM user_scores s WHERE NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = s.user_id)
"""


class Head(NamedTuple):
    """The end of the log. `origin` names the log, `seq` its newest event, `members` the users on the board.

    `mark` tells the event from every other one that could have its seq: 0 if there is none.
    """

    origin: str
    seq: int
    members: int
    mark: int


# Later versions may write other kinds beside these. Whoever folds the log skips what it does not know.
KNOWN_KINDS = list(ScoreEvent.Kind.values)


class MemberTotal(NamedTuple):
    """A user's total after an event; `None` when the event took them off the board.

    `counts` is false for an event that changes no total: of a stream, or of a kind that this version does not know.
    """

    seq: int
    mark: int
    counts: bool
    user_id: str
    total: int | None


class Log:
    """The log of one database: row `name` of table `leaderboards` is the head, `score_events` are the events.

    Everything that works on a log (`Writer`, `RankIndexer`, `Copy`, `Tail`) takes it as an argument, so that a process
    can have a second one. A seq means nothing without its log, and no transaction spans two logs.

    A database that is put back to an earlier moment under a running service has the same name and numbers as the one
    that was lost. So the log remembers the newest head that this process has seen, and looks for that event whenever it
    reads the head again. If the event is gone, or is another one, the log gets a new epoch, and with it a new origin:
    no answer and no frame mixes the two histories. See docs/adr/0024.
    """

    def __init__(self, name: str, *, alias: str = DEFAULT_DB_ALIAS) -> None:
        self.name = name
        self.alias = alias  # in DATABASES
        self._seen: Head | None = None
        self._wal_visible: bool | None = None  # None: not looked at yet
        self._look_at_wal_at = 0.0  # monotonic seconds; not before

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's connection to the log's database.

        A server that stopped taking writes is left, if the URL asks for one that takes them: another of its hosts may.
        """
        connection = connections[self.alias]
        if _was_demoted(connection):
            connection.close()
        return connection

    def drop_dead_connection(self) -> None:
        """Close the calling thread's connection if the server ended it while it was idle: the next use makes another.

        For those whose first statement would be a 503 for somebody otherwise.
        """
        if _was_closed(connections[self.alias]):
            connections[self.alias].close()

    # Its identity

    @property
    def origin_sql(self) -> str:
        """The identity of the log of row `b`: its epoch and, where it can be seen, the database it lives in."""
        epoch = "left(b.epoch::text, 8)"
        return epoch if self._wal_visible is False else f"{epoch} || '-' || {WAL_SQL}"

    def look_at_wal(self) -> None:
        """Find out whether this role may see the write-ahead log. Not in a transaction, which a refusal would end."""
        if time.monotonic() < self._look_at_wal_at:
            return
        why = ""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(MAY_SEE_WAL_SQL)
                (is_visible,) = cursor.fetchone()
                if is_visible:  # asked first, since the server logs a refusal
                    cursor.execute(f"SELECT {WAL_SQL}")
            self._look_at_wal_at = 0.0 if is_visible else time.monotonic() + LOOK_AT_WAL_EVERY_S
        except (ProgrammingError, NotSupportedError) as error:  # functions that the provider does not have
            is_visible, self._look_at_wal_at = False, math.inf
            why = f" ({str(error).strip().partition(chr(10))[0]})"
        was_visible, self._wal_visible = self._wal_visible, is_visible
        if not is_visible and was_visible is not False:
            logger.warning(
                "PostgreSQL does not show this role its write-ahead log%s. A database that is put back, or a standby that "
                "takes over, is recognised by its events alone: docs/operations.md, PostgreSQL.",
                why,
            )

    def look_at_wal_again(self) -> bool:
        """Whether the right to see the write-ahead log was taken away since the last look."""
        was_visible = self._wal_visible
        self.look_at_wal()
        return was_visible is not False and self._wal_visible is False

    def seen(self) -> Head | None:
        """The newest head that this process has seen. Ask before you read the head, and compare by `continues`."""
        return self._seen

    def saw(self, head: Head) -> None:
        """Remember a committed head."""
        seen = self._seen
        if seen is None or seen.origin != head.origin or seen.seq <= head.seq:
            self._seen = head

    def begin_epoch(self, origin: str) -> None:
        """Give the log a new epoch, unless another process has just done so: it is no longer the log `origin`."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "UPDATE leaderboards SET epoch = gen_random_uuid() WHERE name = %s AND left(epoch::text, 8) = %s",
                [self.name, origin.partition("-")[0]],
            )
            if cursor.rowcount:
                logger.warning("The database was put back: the log of %s begins a new epoch", self.name)

    # Its end

    def head(self) -> Head:
        """The current end of the log. Starts the log if there is none, and a new epoch if it is not the one seen before."""
        if self._wal_visible is not True:
            self.look_at_wal()
        try:
            return self._head()
        except (ProgrammingError, NotSupportedError):  # the right to see the write-ahead log was taken away
            self.look_at_wal()
            return self._head()

    def _head(self) -> Head:
        head, is_same = self._read_head()
        if not is_same:
            self.begin_epoch(head.origin)
            head, _ = self._read_head()
        self.saw(head)
        return head

    def _read_head(self) -> tuple[Head, bool]:
        """The head, and whether it continues what was seen before."""
        seen = self.seen()
        with self.connection.cursor() as cursor:
            # One statement, and so one snapshot.
            sql = f"""
                SELECT {self.origin_sql}, b.seq, b.members, coalesce({EVENT_MARK_SQL.format("b.seq")}, 0),
                       {EVENT_MARK_SQL.format("%s")}
                FROM leaderboards b WHERE b.name = %s
            """  # noqa: S608  constants
            parameters: list[int | str] = [seen.seq if seen else 0, self.name]
            cursor.execute(sql, parameters)
            while (row := cursor.fetchone()) is None:  # not `if`: whoever deletes a head by hand may do so twice
                self.start()
                cursor.execute(sql, parameters)
        *columns, mark_at_seen = row
        head = Head(*columns)
        return head, continues(seen, head, mark_at_seen)

    def start(self) -> None:
        """Create the head with a new epoch, unless another process has just done so; at the end of the events, if any."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO leaderboards (name, epoch, seq, members) "
                f"SELECT %s, gen_random_uuid(), ({LAST_SEQ_SQL}), ({MEMBERS_SQL}) ON CONFLICT DO NOTHING",
                [self.name],
            )

    def mend_head(self) -> None:
        """Put the head where the tables say that it is, in a new epoch, if somebody changed one of them by hand.

        Decided under the lock: whoever asks may have seen a head and tables that are gone by now.
        """
        with transaction.atomic(using=self.alias):
            self._lock_row()
            with self.connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE leaderboards b SET epoch = gen_random_uuid(), seq = found.seq, "  # noqa: S608
                    "members = found.members "
                    f"FROM (SELECT ({LAST_SEQ_SQL}) AS seq, ({MEMBERS_SQL}) AS members) AS found "
                    "WHERE b.name = %s AND (b.seq, b.members) <> (found.seq, found.members)",
                    [self.name],
                )
                is_mended = cursor.rowcount > 0
        if is_mended:
            logger.warning("The head of the log did not agree with the tables: it was mended, and begins a new epoch")

    def _lock_row(self) -> None:
        """Take the lock on the head until the transaction ends."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT FROM leaderboards WHERE name = %s FOR UPDATE", [self.name])

    def totals_from(self, seq: int, *, limit: int) -> list[MemberTotal]:
        """The totals of their users after event `seq` and after each of the next `limit` events, in order."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT seq, {MARK_SQL.format('created_at')}, kind = ANY(%s) AND stream IS NULL, user_id, "  # noqa: S608  constants
                "CASE WHEN kind <> 'block' AND hidden IS NOT TRUE AND NOT starts_with(user_id, %s) THEN total END "
                "FROM score_events "
                "WHERE seq >= %s ORDER BY seq LIMIT %s",
                # An unblock of a service brings nobody onto the board.
                [KNOWN_KINDS, SERVICE_PREFIX, seq, limit + 1],
            )
            return [MemberTotal(*row) for row in cursor.fetchall()]

    def mark_of(self, seq: int) -> int | None:
        """The mark of an event; `None` if the log does not have it."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {EVENT_MARK_SQL.format('%s')}", [seq])
            mark: int | None = cursor.fetchone()[0]
            return mark

    @contextmanager
    def snapshot(self) -> Iterator[Head]:
        """A read-only transaction that sees the tables as of the head it yields. The log must have been started."""
        if self._wal_visible is None:
            self.look_at_wal()
        with self._read_only():
            head, is_same = self._read_head()
            if is_same:
                self.saw(head)
                yield head
                return
        self.begin_epoch(head.origin)
        with self._read_only():
            head, _ = self._read_head()
            self.saw(head)
            yield head

    @contextmanager
    def _read_only(self) -> Iterator[None]:
        with transaction.atomic(using=self.connection.alias):
            with self.connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    @contextmanager
    def try_rebuild_lock(self) -> Iterator[bool]:
        """Yield whether this process got the rebuild lock; never waits. A dead process loses it with its connection.

        The lock belongs to a transaction, because behind a pooler only that keeps a session for itself; and to one on a
        connection of its own, because a rebuild has several. It is idle and sees no snapshot, so it holds up no vacuum.
        A process that stops loses the lock after `REBUILD_LOCK_S`: two rebuilds at once are no error, only work.
        """
        if self.rebuild_under_way():  # spares the connection to those who look several times a second
            yield False
            return
        with closing(self.connection.copy()) as session:
            session.set_autocommit(False)
            with session.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_try_advisory_xact_lock(hashtext(%s)), "
                    "set_config('idle_in_transaction_session_timeout', %s, true)",
                    [self._rebuild_lock, f"{REBUILD_LOCK_S}s"],
                )
                acquired, _ = cursor.fetchone()
            try:
                yield acquired
            finally:
                try:
                    session.rollback()  # at once; the end of the connection releases the lock a moment later
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
        for a process that compares the copy. Raises `Damaged` if the log is not the one seen before.
        """
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('lock_timeout', '1000', true), "
                "set_config('idle_in_transaction_session_timeout', '1000', true)"
            )
        self._lock_row()
        # By a statement of its own: one that waited for the lock has a snapshot from before the wait.
        head, is_same = self._read_head()
        if not is_same:
            raise Damaged("diverged")
        return head

    def touched_after(self, seq: int, user_ids: Collection[str]) -> set[str]:
        """Those of `user_ids` whose total an event after `seq` has changed."""
        events = self.events_after(seq).filter(user_id__in=user_ids)
        return set(events.values_list("user_id", flat=True))

    def events_after(self, seq: int) -> QuerySet[ScoreEvent]:
        """The events after `seq`, without those of unknown kinds."""
        return ScoreEvent.objects.using(self.alias).filter(seq__gt=seq, kind__in=KNOWN_KINDS)

    def visible(self) -> QuerySet[UserScore]:
        """All members of the board."""
        blocks = Block.objects.filter(user_id=OuterRef("user_id"))
        return UserScore.objects.using(self.alias).filter(~Exists(blocks))

    def visible_totals(self, *, chunk: int) -> Generator[tuple[str, int], None, None]:
        """All members with their totals, streamed `chunk` rows at a time, in no order.

        Call it within a `snapshot`, and close it there.
        """
        rows = self.visible().values_list("user_id", "score").iterator(chunk_size=chunk)
        return cast("Generator[tuple[str, int], None, None]", rows)

    def visible_totals_from(self, after: str, *, limit: int) -> list[tuple[str, int]]:
        """The next `limit` members after user id `after`, with their totals, ordered by user id."""
        rows = self.visible().filter(user_id__gt=after).order_by("user_id")
        return list(rows.values_list("user_id", "score")[:limit])


def continues(seen: Head | None, head: Head, mark_at_seen: int | None) -> bool:
    """Whether `head` is a later end of the log that ended with `seen`; `mark_at_seen` is its mark of that event.

    An event that the log no longer has, because its old end was archived, proves nothing.
    """
    if seen is None or seen.origin != head.origin:
        return True  # nothing is known of this log, or everybody can see that it is another
    return head.seq >= seen.seq and mark_at_seen in (None, seen.mark)


# What PostgreSQL 14 and later report with their answers whenever it changes, so that no question is asked: "on" is the
# opposite of what libpq connects to for this value of `target_session_attrs`.
REPORTED = {"read-write": ("default_transaction_read_only", "in_hot_standby"), "primary": ("in_hot_standby",)}


def _was_closed(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server sent something to the idle connection: its goodbye, or the end of the stream after a kill.

    The next statement would show it too, but as a 503 for whoever needs it. The check costs a microsecond.
    """
    raw = connection.connection
    if raw is None or connection.in_atomic_block:
        return False
    if raw.closed:
        return True
    if raw.info.pipeline_status:  # the answers of a pipeline are on their way
        return False
    poller = select.poll()
    try:
        poller.register(raw.fileno(), select.POLLIN)
    except psycopg.Error:  # closed already
        return True
    return bool(poller.poll(0))


def _was_demoted(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server is no longer one that libpq would connect to."""
    raw = connection.connection
    if raw is None or raw.closed or connection.in_atomic_block:
        return False
    wanted = connection.settings_dict["OPTIONS"].get("target_session_attrs", "any")
    return any(raw.info.parameter_status(name) == "on" for name in REPORTED.get(wanted, ()))


log = Log("leaderboard")
