"""Group commit: all waiting changes become one transaction, under one lock, in one order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.db import DataError, IntegrityError, NotSupportedError, ProgrammingError, transaction
from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from scores import metrics, signals
from scores.exceptions import DATABASE_AWAY, OutcomeUnknown, ScoreError, Unavailable
from scores.models import MAX_TOTAL, ScoreEvent
from scores.stores.batcher import Batcher

from . import refusals
from .arrays import booleans, numbers, texts
from .head import EVENT_MARK_SQL, KNOWN_KINDS, Head, Log, continues, log
from .ledger import Change, Event, Keyed, Kind, Ledger, Recorded, Rule, StreamRule, Taken, Voidable
from .periods import AT_SQL, latest, mark_at, roll_over
from .session import Session, session_of

logger = logging.getLogger(__name__)

ACTED = frozenset((Kind.INCREMENT, Kind.SCORE, Kind.VOID))  # what a service may do, and a blocked one may not
MAX_PER_TRANSACTION = 512
PART = 128  # changes that are decided before PostgreSQL has their events
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
# The marks of the newest event and of the event that this process saw last, and when the events of this transaction are
# written. Not part of the statement above, whose snapshot is from before the wait for the lock.
MARKS_SQL = f"""
    SELECT coalesce({EVENT_MARK_SQL.format("b.seq")}, 0), {EVENT_MARK_SQL.format("%s")},
           clock.at, b.next_boundary <= clock.at, clock_timestamp() > %s{{rest}}
    FROM leaderboards b, LATERAL (SELECT {AT_SQL} AS at OFFSET 0) AS clock WHERE b.name = %s
"""  # noqa: S608  constants
# For `TAKEN_SQL` and `STREAMS_SQL`, which are sent before this process knows when its events are written.
AT_CONFIG_SQL = ", set_config('leaderboard.at', clock.at::text, true)"
TRANSACTION_TIMEOUT_SINCE = 170_000  # server_version_num
TOTALS_SQL = "SELECT user_id, score FROM user_scores WHERE user_id = ANY(%s::text[])"
KEYED_SQL = """
    SELECT e.user_id, e.idempotency_key, e.seq, e.points, e.total, e.action, e.stream
    FROM unnest(%s::text[], %s::text[]) AS wanted (user_id, idempotency_key)
    JOIN score_events e USING (user_id, idempotency_key)
"""
RULES_SQL = """
    SELECT name, points, cooldown_s, daily_cap, starts_at, ends_at, services_only FROM actions
    WHERE name = ANY(%s) AND enabled
"""
# Compares with `created_at`, which is the time of the log too: so the log itself proves that every two events of a user
# and action respect the cooldown and the cap. Both look-ups are ranges of the index `score_events_of_action`, the second
# no longer than the cap. Without a head, which is made then, there is no time yet.
TAKEN_SQL = """
    SELECT wanted.user_id, wanted.action,
        (SELECT extract(epoch FROM clock.at - max(e.created_at))::float8 FROM score_events e
         WHERE e.user_id = wanted.user_id AND e.action = wanted.action),
        (SELECT count(*) FROM score_events e
         WHERE e.user_id = wanted.user_id AND e.action = wanted.action AND e.created_at >= clock.day),
        extract(epoch FROM clock.day + interval '1 day' - clock.at)::float8
    FROM unnest(%s::text[], %s::text[]) AS wanted (user_id, action),
        (SELECT at, date_trunc('day', at, 'UTC') AS day
         FROM (SELECT nullif(current_setting('leaderboard.at', true), '')::timestamptz AS at) AS now) AS clock
"""
USERS_SQL = "SELECT seq, user_id FROM score_events WHERE seq = ANY(%s)"
STREAMS_SQL = """
    SELECT b.name, b.stream, b.archived_at IS NOT NULL, b.least, b.most, b.fold = 'sum', b.submitters = 'services',
        b.period = 'season' AND NOT EXISTS (
            SELECT FROM boards o JOIN periods p ON p.board_id = o.id WHERE o.stream = b.stream AND o.archived_at IS NULL
              AND (p.starts_at IS NULL OR p.starts_at <= now.at) AND (p.ends_at IS NULL OR p.ends_at > now.at)
        )
    FROM boards b, (SELECT nullif(current_setting('leaderboard.at', true), '')::timestamptz AS at) AS now
    WHERE b.name = ANY(%s)
"""
VOIDABLE_SQL = """
    SELECT e.seq, e.user_id, e.kind, e.points, e.stream, EXISTS (SELECT FROM score_events v WHERE v.voids = e.seq),
        e.seq < corrected.seq
    FROM unnest(%s::bigint[]) AS wanted (seq) JOIN score_events e USING (seq) LEFT JOIN (
        SELECT user_id, max(seq) AS seq FROM score_events
        WHERE user_id = ANY(%s) AND kind = 'correction' GROUP BY user_id
    ) AS corrected USING (user_id)
    WHERE e.kind = ANY(%s)
"""
# The caller sorts the rows by user id, so that neighbours are adjacent in the write-ahead log and in the index.
# Deadlocks need no `ORDER BY`: the lock above already puts the writers in one order.
SAVE_TOTALS_SQL = """
    INSERT INTO user_scores (user_id, score, updated_at)
    SELECT user_id, score, %s FROM unnest(%s::text[], %s::bigint[]) AS t (user_id, score)
    ON CONFLICT (user_id) DO UPDATE SET score = excluded.score, updated_at = excluded.updated_at
"""
# The columns of an event, with PostgreSQL's type and who makes the array.
EVENT_COLUMNS: Mapping[str, tuple[str, Callable[[Sequence[Any]], str]]] = {
    "seq": ("bigint", numbers),
    "user_id": ("text", texts),
    "kind": ("text", texts),
    "points": ("bigint", numbers),
    "total": ("bigint", numbers),
    "idempotency_key": ("text", texts),
    "actor": ("text", texts),
    "reason": ("text", texts),
    "action": ("text", texts),
    "stream": ("text", texts),
    "voids": ("bigint", numbers),
    "hidden": ("bool", booleans),
    "metadata": ("text", texts),
}
# The columns that are the same in all events of most batches, which send them once: a tenth of PostgreSQL's time for an event
# is to read arrays.
OFTEN_ALIKE = ("kind", "actor", "reason", "action", "stream", "voids", "hidden", "metadata")


def save_events_sql(once: Collection[str]) -> str:
    """Takes the time, the values of the columns `once`, and the arrays of the others, all in the order of a table's row."""
    arrays = [f"%s::{kind}[]" for name, (kind, _) in EVENT_COLUMNS.items() if name not in once]
    values = [f"%s::{kind}" if name in once else f"e.{name}" for name, (kind, _) in EVENT_COLUMNS.items()]
    names = [name for name in EVENT_COLUMNS if name not in once]
    return f"""
        INSERT INTO score_events (created_at, {", ".join(EVENT_COLUMNS)})
        SELECT %s, {", ".join(values)} FROM unnest({", ".join(arrays)}) AS e ({", ".join(names)})
    """  # noqa: S608  constants


SAVE_EVENTS_SQL = {once: save_events_sql(once) for once in (OFTEN_ALIKE, ())}
SAVE_HEAD_SQL = "UPDATE leaderboards SET seq = %s, members = %s, at = %s WHERE name = %s"
BLOCK_SQL = "INSERT INTO blocks (user_id, seq) VALUES (%s, %s)"
UNBLOCK_SQL = "DELETE FROM blocks WHERE user_id = %s"


class Diverged(Exception):  # noqa: N818  names what happened
    """The log `origin` does not continue what this process has seen of it."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self.origin = origin


class Locked(NamedTuple):
    """What a batch begins with: the mark of the newest event, the ledger, and whether a period starts or ends now."""

    mark: int
    ledger: Ledger
    is_boundary: bool


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
        self.clock_is_ahead = False  # the database's, of this process's, by more than a minute

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
            session = session_of(connection)
            raw: psycopg.Connection[Any] = connection.connection
            # The pipeline encloses the transaction, so that COMMIT travels with the writes.
            with connection.wrap_database_errors, raw.pipeline() as pipeline:
                with atomic:
                    deciding = self._transact(session, psycopg.Cursor(raw), pipeline, changes)
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

    def _transact(
        self, session: Session, cursor: psycopg.Cursor[Any], pipeline: psycopg.Pipeline, changes: Sequence[Change]
    ) -> Batch:
        if any(change.voids is not None for change in changes):
            changes = _with_users_of_voided(cursor, changes)
        session.begin(cursor)  # before the lock, which it limits, and in the same round trip
        locked = self._lock_and_read(cursor, pipeline, changes)
        ledger = locked.ledger
        session.plan_anew(cursor, ledger.seq)
        if locked.is_boundary:
            roll_over(cursor, self._log.name, seq=ledger.seq, at=ledger.at)
        first = ledger.seq + 1
        outcomes: list[Recorded | Exception] = []
        for start in range(0, len(changes), PART):
            saved = len(ledger.events)
            outcomes += [ledger.try_decide(change) for change in changes[start : start + PART]]
            self._save_events(cursor, ledger.at, ledger.events[saved:])
        if not ledger.events:
            return Batch(outcomes, None)
        totals = self._save_totals(cursor, ledger)
        facts = {
            "origin": ledger.origin,
            "first": first,
            "last": ledger.seq,
            "members": ledger.members,
            "totals": totals,
            "mark_before": locked.mark,
            "mark": mark_at(ledger.at),
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
        actors = {change.actor for change in changes if change.actor and change.kind in ACTED}
        tokens = {change.token for change in changes if change.token}
        keys = [(c.user_id, c.idempotency_key) for c in changes if c.idempotency_key is not None]
        actions = sorted({(c.user_id, c.action) for c in changes if c.action is not None})
        streams = sorted({c.stream for c in changes if c.stream is not None})
        voided = sorted({c.voids for c in changes if c.voids is not None})
        seen = self._log.seen()
        head, marks, totals, refused, keyed, rules, taken, boards, voidable = (
            psycopg.Cursor(cursor.connection) for _ in range(9)
        )
        is_timed = cursor.connection.info.server_version >= TRANSACTION_TIMEOUT_SINCE
        lock_sql = TIMED_LOCK_SQL if is_timed else LOCK_SQL
        head.execute(lock_sql.format(origin=self._log.origin_sql), [self._log.name])
        bound = latest()
        marks_sql = MARKS_SQL.format(rest=AT_CONFIG_SQL if actions or streams else "")
        marks.execute(marks_sql, [seen.seq if seen else 0, bound, bound, self._log.name])
        totals.execute(TOTALS_SQL, [texts(users)])
        refused.execute(refusals.REFUSED_SQL, refusals.parameters(users, actors, tokens))
        if keys:
            keyed.execute(KEYED_SQL, [*map(texts, zip(*keys, strict=True))])
        if actions:
            rules.execute(RULES_SQL, [sorted({action for _, action in actions})])
            taken.execute(TAKEN_SQL, [*map(texts, zip(*actions, strict=True))])
        if streams:
            boards.execute(STREAMS_SQL, [streams])
        if voided:
            voidable.execute(VOIDABLE_SQL, [voided, users, KNOWN_KINDS])
        # Without a Sync, which a fetch does not send, the session counts as active while the pipeline is open: no
        # timeout would end it, and if this worker stopped here, it would block all increments of all workers.
        pipeline.sync()
        row = head.fetchone()
        if row is None:
            self._log.start()
            return self._lock_and_read(cursor, pipeline, changes)
        origin, seq, members, *_ = row
        clock = marks.fetchone()
        assert clock is not None  # the head is locked
        mark, mark_at_seen, at, is_boundary, is_ahead, *_ = clock
        if is_ahead is not self.clock_is_ahead:
            self._note_clock(is_ahead)
        if not continues(seen, Head(origin, seq, members, mark), mark_at_seen):
            raise Diverged(origin)
        blocked, inactive, revoked = refusals.split(refused.fetchall(), tokens)
        ledger = Ledger(
            origin=origin,
            at=at,
            seq=seq,
            members=members,
            totals=dict(totals.fetchall()),
            blocked=blocked,
            inactive=inactive,
            revoked=revoked,
            rules={name: Rule(*rule) for name, *rule in rules.fetchall()} if actions else {},
            taken={(user, action): Taken(*row) for user, action, *row in taken.fetchall()} if actions else {},
            keyed={(user, key): Keyed(*event) for user, key, *event in keyed.fetchall()} if keys else {},
            streams={name: _stream_rule(*row) for name, *row in boards.fetchall()} if streams else {},
            voidable={seq: Voidable(*event) for seq, *event in voidable.fetchall()} if voided else {},
        )
        return Locked(mark, ledger, is_boundary)

    def _note_clock(self, is_ahead: bool) -> None:
        """Periods do not end by a clock that runs a minute ahead; a person has to look at it."""
        self.clock_is_ahead = is_ahead
        metrics.database_clock_ahead.set(is_ahead)
        if is_ahead:
            logger.error("The database's clock is more than a minute ahead of this host's: the log goes by this host's")
        else:
            logger.info("The database's clock and this host's agree again")

    def _save_events(self, cursor: psycopg.Cursor[Any], at: datetime, events: Sequence[Event]) -> None:
        """Send them. PostgreSQL begins with them at once, also while the next ones are being decided."""
        if not events:
            return
        columns = dict(zip(Event._fields, zip(*events, strict=True), strict=True))
        first = events[0]._asdict()
        are_alike = all(columns[name].count(first[name]) == len(events) for name in OFTEN_ALIKE)
        once = OFTEN_ALIKE if are_alike else ()
        arrays = [array(columns[name]) for name, (_, array) in EVENT_COLUMNS.items() if name not in once]
        cursor.execute(SAVE_EVENTS_SQL[once], [at, *(first[name] for name in once), *arrays])

    def _save_totals(self, cursor: psycopg.Cursor[Any], ledger: Ledger) -> dict[str, int | None]:
        """Send the other writes; the commit waits for all. Returns the touched users' totals for `scores_committed`."""
        last = {event.user_id: event.total for event in ledger.events if event.stream is None}
        if last:
            users = sorted(last)
            cursor.execute(SAVE_TOTALS_SQL, [ledger.at, texts(users), numbers([last[user] for user in users])])
        cursor.execute(SAVE_HEAD_SQL, [ledger.seq, ledger.members, ledger.at, self._log.name])
        for event in ledger.events:
            if event.kind == ScoreEvent.Kind.BLOCK:
                cursor.execute(BLOCK_SQL, [event.user_id, event.seq])
            elif event.kind == ScoreEvent.Kind.UNBLOCK:
                cursor.execute(UNBLOCK_SQL, [event.user_id])
        return {user: None if user in ledger.blocked else total for user, total in last.items()}

    def record_batch(self, changes: Sequence[Change]) -> list[Recorded | Exception]:
        """`record` for the batcher: an error of the transaction answers each change."""
        outcomes: list[Recorded | Exception]
        try:
            outcomes = self.record(changes)
        except Exception as error:
            outcomes = [error] * len(changes)
        count(changes, outcomes)
        return outcomes


def _is_only_locked(connection: BaseDatabaseWrapper, error: DatabaseError) -> bool:
    """Whether a lock was not granted in time, and the transaction was rolled back: the connection is as good as before."""
    raw: psycopg.Connection[Any] | None = connection.connection
    is_idle = raw is not None and raw.info.transaction_status is TransactionStatus.IDLE
    return is_idle and isinstance(error.__cause__, psycopg.errors.LockNotAvailable)


def _with_users_of_voided(cursor: psycopg.Cursor[Any], changes: Sequence[Change]) -> list[Change]:
    """Whose the events are that voids take back. Before the lock, since no event ever changes."""
    cursor.execute(USERS_SQL, [[change.voids for change in changes if change.voids is not None]])
    users = dict(cursor.fetchall())
    return [c if c.voids is None else c._replace(user_id=users.get(c.voids, "")) for c in changes]


def _stream_rule(
    stream: str | None,
    is_archived: bool,
    least: int | None,
    most: int | None,
    is_sum: bool,
    services_only: bool,
    is_between_seasons: bool,
) -> StreamRule:
    """Sums are of points; other boards rank any number that is exact in every store."""
    lowest, highest = (1, settings.MAX_POINTS) if is_sum else (-MAX_TOTAL, MAX_TOTAL)
    least, most = (lowest if least is None else max(least, lowest)), (highest if most is None else min(most, highest))
    return StreamRule(stream, is_archived, least, most, services_only, is_between_seasons)


def count(changes: Sequence[Change], outcomes: Sequence[Recorded | Exception]) -> None:
    """Count increments by result."""
    results = [_result(o) for c, o in zip(changes, outcomes, strict=True) if c.kind is Kind.INCREMENT]
    metrics.add_each(metrics.increments, results)


def _result(outcome: Recorded | Exception) -> str:
    if isinstance(outcome, Recorded):
        return "replayed" if outcome.replayed else "recorded"
    return outcome.code if isinstance(outcome, ScoreError) else "internal_error"


writer = Writer(log)
