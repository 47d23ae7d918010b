"""Group commit: all waiting changes become one transaction, under one lock, in one order."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakSet

import psycopg
from django.db import DataError, IntegrityError, NotSupportedError, ProgrammingError, transaction
from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from scores import metrics, signals
from scores.exceptions import DATABASE_AWAY, OutcomeUnknown, ScoreError, Unavailable
from scores.models import ScoreEvent
from scores.stores.batcher import Batcher

from . import refusals
from .head import EVENT_MARK_SQL, MARK_SQL, Head, Log, continues, log
from .ledger import Change, Event, Keyed, Kind, Ledger, Recorded, Rule, Taken

logger = logging.getLogger(__name__)

MAX_PER_TRANSACTION = 512
# The lock on the log's head is held across one round trip. A worker that stops in that moment must not hold it longer
# than the others wait for their answers: PostgreSQL ends its session. From a host that lost its network PostgreSQL
# hears nothing at all; TCP's own probes detect that. They mean nothing on a Unix socket, where PostgreSQL ignores them.
# Behind a pooler the limits end with the transaction, since the session is then somebody else's. A session of our own keeps
# them, since to set them each time costs 3 % of a small batch.
# A wait for a lock ends before its statement does, so that the error says what was waited for.
LIMITS_SQL = """
    SELECT set_config('idle_in_transaction_session_timeout', '1000', {local}),
           set_config('lock_timeout', '1900', {local}),
           set_config('statement_timeout', '2000', {local}),
           set_config('tcp_user_timeout', '2000', {local}),
           set_config('tcp_keepalives_idle', '1', {local}),
           set_config('tcp_keepalives_interval', '1', {local}),
           set_config('tcp_keepalives_count', '2', {local})
"""
LIMITS_OF_TRANSACTION_SQL = LIMITS_SQL.format(local="true")
LIMITS_OF_SESSION_SQL = LIMITS_SQL.format(local="false")
RECENT_S = 60.0
LOCK_SQL = "SELECT {origin}, b.seq, b.members FROM leaderboards b WHERE b.name = %s FOR UPDATE OF b"
# Since version 17, PostgreSQL can limit the whole time from the lock to the commit, also for a worker that stops
# between two statements of one round trip. The timeout counts from when it is set: in an outer query, so that it starts
# when the lock is granted and not while the worker waits for it. It is shorter than the timeout of the waiting
# requests. A wait for a lock on another table must end first: `transaction_timeout` ends the session, which looks like a
# lost connection. The head itself may take longer, since whoever holds it has these 1.5 s.
TIMED_LOCK_SQL = f"""
    WITH head AS MATERIALIZED ({LOCK_SQL})
    SELECT head.*, set_config('transaction_timeout', '1500', true), set_config('lock_timeout', '1000', true) FROM head
"""  # noqa: S608  constants
# The marks of the newest event, of the event that this process saw last, and of the events of this transaction. Not part
# of the statement above, whose snapshot is from before the wait for the lock.
MARKS_SQL = f"""
    SELECT coalesce({EVENT_MARK_SQL.format("b.seq")}, 0), {EVENT_MARK_SQL.format("%s")}, {MARK_SQL.format("now()")}
    FROM leaderboards b WHERE b.name = %s
"""  # noqa: S608  constants
TRANSACTION_TIMEOUT_SINCE = 170_000  # server_version_num
TOTALS_SQL = "SELECT user_id, score FROM user_scores WHERE user_id = ANY(%s)"
KEYED_SQL = """
    SELECT e.user_id, e.idempotency_key, e.seq, e.points, e.total, e.action
    FROM unnest(%s::text[], %s::text[]) AS wanted (user_id, idempotency_key)
    JOIN score_events e USING (user_id, idempotency_key)
"""
RULES_SQL = "SELECT name, points, cooldown_s, daily_cap FROM actions WHERE name = ANY(%s) AND enabled"
# Compares `now()` with `created_at`, which was `now()` too: so the log itself proves that every two events of a user
# and action respect the cooldown and the cap. `now()` may go back a little from one transaction to the next, which only
# adds to the wait. Both look-ups are ranges of the index `score_events_of_action`, the second no longer than the cap.
TAKEN_SQL = """
    SELECT wanted.user_id, wanted.action,
        (SELECT extract(epoch FROM now() - max(e.created_at))::float8 FROM score_events e
         WHERE e.user_id = wanted.user_id AND e.action = wanted.action),
        (SELECT count(*) FROM score_events e
         WHERE e.user_id = wanted.user_id AND e.action = wanted.action AND e.created_at >= day.start),
        extract(epoch FROM day.start + interval '1 day' - now())::float8
    FROM unnest(%s::text[], %s::text[]) AS wanted (user_id, action),
        (SELECT date_trunc('day', now(), 'UTC') AS start) AS day
"""
# The caller sorts the rows by user id, so that neighbours are adjacent in the write-ahead log and in the index.
# Deadlocks need no `ORDER BY`: the lock above already puts the writers in one order.
SAVE_TOTALS_SQL = """
    INSERT INTO user_scores (user_id, score, updated_at)
    SELECT user_id, score, now() FROM unnest(%s::text[], %s::bigint[]) AS t (user_id, score)
    ON CONFLICT (user_id) DO UPDATE SET score = excluded.score, updated_at = excluded.updated_at
"""
SAVE_EVENTS_SQL = """
    INSERT INTO score_events (seq, user_id, kind, points, total, idempotency_key, actor, reason, action, created_at)
    SELECT e.*, now() FROM unnest(
        %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[]
    ) AS e
"""
SAVE_HEAD_SQL = "UPDATE leaderboards SET seq = %s, members = %s WHERE name = %s"
BLOCK_SQL = "INSERT INTO blocks (user_id, seq) VALUES (%s, %s)"
UNBLOCK_SQL = "DELETE FROM blocks WHERE user_id = %s"


class Diverged(Exception):  # noqa: N818  names what happened
    """The log `origin` does not continue what this process has seen of it."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self.origin = origin


class Locked(NamedTuple):
    """What a batch begins with: the log, the marks of its newest event and of those to come, and the ledger."""

    origin: str
    mark: int
    mark_now: int
    ledger: Ledger


class Batch(NamedTuple):
    """The outcome of each change, and what `scores_committed` says; `None` if all were refused."""

    outcomes: list[Recorded | Exception]
    facts: dict[str, Any] | None


class WriteOutage:
    """Why the database records nothing, from the first failure to the next success; logged once for each kind."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self._newest = ""
        self._failed_at = 0.0

    @property
    def recent(self) -> str:
        """The SQLSTATE and name of the newest failure; empty if it was not in the last minute, or a success followed."""
        is_recent = self.kinds and time.monotonic() - self._failed_at < RECENT_S
        return self._newest if is_recent else ""

    def failed(self, error: DatabaseError | Diverged) -> None:
        cause = error.__cause__
        sqlstate = getattr(cause, "sqlstate", None) or ""  # without one, the connection itself failed
        self._newest = kind = f"{sqlstate} {type(cause or error).__name__}".lstrip()
        self._failed_at = time.monotonic()
        if kind not in self.kinds:
            self.kinds.add(kind)
            # The first line only: details may show a user's data. Of a wrong value, the first line does as well.
            text = str(error).strip().partition("\n")[0] if sqlstate else " ".join(str(error).split())
            text = "a value does not fit" if isinstance(error, DataError) else text
            logger.warning("The database does not record changes: %s: %s", kind, text)

    def ended(self) -> None:
        self.kinds.clear()
        logger.info("The database records changes again")


class Writer:
    """Records changes in one log. Each process has one; the lock on the log's head puts their commits in one order."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.batcher: Batcher[Change, Recorded] = Batcher(
            "writer", self.record_batch, max_batch=MAX_PER_TRANSACTION, max_queued=20_000, timeout_s=1.8
        )
        self.outage = WriteOutage()

    def record(self, changes: Sequence[Change]) -> list[Recorded | Exception]:
        """Record all `changes` in one transaction, and send `scores_committed` after its commit.

        Two round trips: the lock with the reads, then the writes with the commit. A refused change is one of the
        answers and does not affect the others. Every failure of the database raises `OutcomeUnknown`: the commit may
        have happened.
        """
        started = time.perf_counter()
        batch = self._commit_to_a_log_that_is_whole(changes)
        if batch.facts is not None:
            # Not by `transaction.on_commit`, whose hooks would run within the pipeline: a connection that ends while it is
            # closed would turn a committed batch into an unknown outcome.
            self._log.saw(Head(batch.facts["origin"], batch.facts["last"], batch.facts["members"], batch.facts["mark"]))
            metrics.committed(batch.facts["last"], len(changes), started)
            signals.scores_committed.send_robust(sender=ScoreEvent, **batch.facts)
        return batch.outcomes

    def _commit_to_a_log_that_is_whole(self, changes: Sequence[Change]) -> Batch:
        """`_commit`, after what is wrong with the log was mended. Raises `Unavailable`: nothing was recorded."""
        try:
            for _ in range(2):
                try:
                    return self._commit(changes)
                except Diverged as error:  # the database was put back
                    self._log.begin_epoch(error.origin)
                except IntegrityError as error:
                    if "score_events_pkey" not in str(error):
                        raise
                    self._log.mend_head()  # somebody set it behind its events
                except DataError as error:
                    if not isinstance(error.__cause__, psycopg.errors.NumericValueOutOfRange):
                        raise
                    self._log.mend_head()  # somebody set it to the largest number
                except (ProgrammingError, NotSupportedError):
                    if not self._log.look_at_wal_again():
                        raise
            return self._commit(changes)
        except (DatabaseError, Diverged) as error:
            # Somebody else's constraint or trigger; a table or a right is missing.
            self.outage.failed(error)
            raise Unavailable from error

    def _commit(self, changes: Sequence[Change]) -> Batch:
        self._log.drop_dead_connection()
        connection = self._log.connection
        atomic = transaction.atomic(using=self._log.alias)
        batch: Batch | None = None
        try:
            raw = _connected(connection)
            # The pipeline encloses the transaction, so that COMMIT travels with the writes.
            with connection.wrap_database_errors, raw.pipeline() as pipeline:
                with atomic:
                    deciding = self._transact(psycopg.Cursor(raw), pipeline, changes)
                batch = deciding  # psycopg has waited for the answer to COMMIT
        except DATABASE_AWAY as error:
            if not _is_only_locked(connection, error):
                connection.close()
            if batch is None:
                self.outage.failed(error)
                raise OutcomeUnknown from error
        except DatabaseError:
            connection.close()
            raise
        assert batch is not None
        if self.outage.kinds:
            self.outage.ended()
        return batch

    def _transact(self, cursor: psycopg.Cursor[Any], pipeline: psycopg.Pipeline, changes: Sequence[Change]) -> Batch:
        if cursor.connection in _pooled:
            cursor.execute(LIMITS_OF_TRANSACTION_SQL)  # before the lock, which it limits, and in the same round trip
        locked = self._lock_and_read(cursor, pipeline, changes)
        ledger = locked.ledger
        first = ledger.seq + 1
        outcomes: list[Recorded | Exception] = [ledger.try_decide(change) for change in changes]
        if not ledger.events:
            return Batch(outcomes, None)
        totals = self._save(cursor, ledger)
        facts = {
            "origin": locked.origin,
            "first": first,
            "last": ledger.seq,
            "members": ledger.members,
            "totals": totals,
            "mark_before": locked.mark,
            "mark": locked.mark_now,
        }
        return Batch(outcomes, facts)

    def _lock_and_read(
        self, cursor: psycopg.Cursor[Any], pipeline: psycopg.Pipeline, changes: Sequence[Change]
    ) -> Locked:
        """Take the lock and read what the ledger needs, in one round trip.

        Each statement has its own snapshot (READ COMMITTED), taken when the statement before it is done: the reads see
        everything that was committed before the lock was granted.
        """
        users = sorted({change.user_id for change in changes})
        # In most changes the user is the actor.
        actors = {change.actor for change in changes if change.actor and change.kind == ScoreEvent.Kind.INCREMENT}
        tokens = {change.token for change in changes if change.token}
        keys = [(c.user_id, c.idempotency_key) for c in changes if c.idempotency_key is not None]
        actions = sorted({(c.user_id, c.action) for c in changes if c.action is not None})
        seen = self._log.seen()
        head, marks, totals, refused, keyed, rules, taken = (psycopg.Cursor(cursor.connection) for _ in range(7))
        is_timed = cursor.connection.info.server_version >= TRANSACTION_TIMEOUT_SINCE
        lock_sql = TIMED_LOCK_SQL if is_timed else LOCK_SQL
        head.execute(lock_sql.format(origin=self._log.origin_sql), [self._log.name])
        marks.execute(MARKS_SQL, [seen.seq if seen else 0, self._log.name])
        totals.execute(TOTALS_SQL, [users])
        refused.execute(refusals.REFUSED_SQL, refusals.parameters(users, actors, tokens))
        if keys:
            keyed.execute(KEYED_SQL, [[user for user, _ in keys], [key for _, key in keys]])
        if actions:
            rules.execute(RULES_SQL, [sorted({action for _, action in actions})])
            taken.execute(TAKEN_SQL, [[user for user, _ in actions], [action for _, action in actions]])
        # Without a Sync, which a fetch does not send, the session counts as active while the pipeline is open: no
        # timeout would end it, and if this worker stopped here, it would block all increments of all workers.
        pipeline.sync()
        row = head.fetchone()
        if row is None:
            self._log.start()
            return self._lock_and_read(cursor, pipeline, changes)
        origin, seq, members, *_ = row
        mark, mark_at_seen, mark_now = marks.fetchone() or (0, None, 0)
        if not continues(seen, Head(origin, seq, members, mark), mark_at_seen):
            raise Diverged(origin)
        blocked, inactive, revoked = refusals.split(refused.fetchall(), tokens)
        ledger = Ledger(
            seq=seq,
            members=members,
            totals=dict(totals.fetchall()),
            blocked=blocked,
            inactive=inactive,
            revoked=revoked,
            rules={name: Rule(*rule) for name, *rule in rules.fetchall()} if actions else {},
            taken={(user, action): Taken(*row) for user, action, *row in taken.fetchall()} if actions else {},
            keyed={(user, key): Keyed(*event) for user, key, *event in keyed.fetchall()} if keys else {},
        )
        return Locked(origin, mark, mark_now, ledger)

    def _save(self, cursor: psycopg.Cursor[Any], ledger: Ledger) -> dict[str, int | None]:
        """Send the writes; the commit waits for them. Returns the touched users' totals for `scores_committed`."""
        last: dict[str, Event] = {event.user_id: event for event in ledger.events}
        users = sorted(last.keys() & ledger.totals.keys())  # services are blocked, and have no total
        cursor.execute(SAVE_TOTALS_SQL, [users, [last[user].total for user in users]])
        cursor.execute(SAVE_EVENTS_SQL, [list(column) for column in zip(*ledger.events, strict=True)])
        cursor.execute(SAVE_HEAD_SQL, [ledger.seq, ledger.members, self._log.name])
        for event in ledger.events:
            if event.kind == ScoreEvent.Kind.BLOCK:
                cursor.execute(BLOCK_SQL, [event.user_id, event.seq])
            elif event.kind == ScoreEvent.Kind.UNBLOCK:
                cursor.execute(UNBLOCK_SQL, [event.user_id])
        return {user: None if user in ledger.blocked else last[user].total for user in users}

    def record_batch(self, changes: Sequence[Change]) -> list[Recorded | Exception]:
        """`record` for the batcher: an error of the transaction answers each change. Counts increments by result."""
        outcomes: list[Recorded | Exception]
        try:
            outcomes = self.record(changes)
        except Exception as error:
            outcomes = [error] * len(changes)
        results = [_result(o) for c, o in zip(changes, outcomes, strict=True) if c.kind is Kind.INCREMENT]
        metrics.add_each(metrics.increments, results)
        return outcomes


# Connections that were looked at for a pooler, and those of them that have one.
_known: WeakSet[psycopg.Connection[Any]] = WeakSet()
_pooled: WeakSet[psycopg.Connection[Any]] = WeakSet()


def _connected(connection: BaseDatabaseWrapper) -> psycopg.Connection[Any]:
    """This thread's connection, which `Log.connection` has looked at."""
    connection.ensure_connection()
    raw: psycopg.Connection[Any] = connection.connection
    if raw not in _known:
        # Django turns prepared statements off, but these few are worth planning once: without them a batch takes 15 to
        # 45 % longer. They belong to a session, which behind a pooler is another one in the next transaction.
        if _is_pooled(connection):
            _pooled.add(raw)
        else:
            raw.prepare_threshold = 0
            with connection.cursor() as cursor:
                cursor.execute(LIMITS_OF_SESSION_SQL)
        _known.add(raw)
    return raw


def _is_only_locked(connection: BaseDatabaseWrapper, error: DatabaseError) -> bool:
    """Whether a lock was not granted in time, and the transaction was rolled back: the connection is as good as before."""
    raw: psycopg.Connection[Any] | None = connection.connection
    is_idle = raw is not None and raw.info.transaction_status is TransactionStatus.IDLE
    return is_idle and isinstance(error.__cause__, psycopg.errors.LockNotAvailable)


def _is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Whether a pooler such as PgBouncer answers for the server: it tells its clients a process id of its own making.

    In its session mode as well, which then only misses the prepared statements.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return bool(pid != connection.connection.info.backend_pid)


def _result(outcome: Recorded | Exception) -> str:
    if isinstance(outcome, Recorded):
        return "replayed" if outcome.replayed else "recorded"
    return outcome.code if isinstance(outcome, ScoreError) else "internal_error"


writer = Writer(log)
