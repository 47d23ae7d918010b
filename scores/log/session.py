"""A session of PostgreSQL as the writer has it: with limits to what it may wait for, and with prepared statements."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper

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
REPLAN_AFTER = 1_000  # events


class Session:
    """It belongs to one thread. Behind a pooler it is only a transaction's."""

    def __init__(self, *, is_pooled: bool) -> None:
        self._is_pooled = is_pooled
        self._first: int | None = None  # event that it saw
        self._replan_at = 0

    def begin(self, cursor: psycopg.Cursor[Any]) -> None:
        """Limit the transaction, if nothing limits the session."""
        if self._is_pooled:
            cursor.execute(LIMITS_OF_TRANSACTION_SQL)

    def plan_anew(self, cursor: psycopg.Cursor[Any], seq: int) -> None:
        """Drop the plans of the prepared statements after `REPLAN_AFTER` events, and each time that these have doubled.

        A plan that was made while the log was empty reads all of the log, as it grows, until PostgreSQL analyses it,
        minutes later: after 50,000 increments with keys, each took PostgreSQL 450 µs in the place of 95. How large a table
        is, PostgreSQL knows without that.
        """
        if self._is_pooled:
            return
        if self._first is None:
            self._first, self._replan_at = seq, seq + REPLAN_AFTER
        elif seq >= self._replan_at:
            cursor.execute("DISCARD PLANS", prepare=False)
            self._replan_at = 2 * seq - self._first


# Without a reference to their connections, which would never end.
_sessions: WeakKeyDictionary[psycopg.Connection[Any], Session] = WeakKeyDictionary()


def session_of(connection: BaseDatabaseWrapper) -> Session:
    """That of this thread's connection, which `Log.connection` has looked at."""
    connection.ensure_connection()
    raw: psycopg.Connection[Any] = connection.connection
    session = _sessions.get(raw)
    if session is None:
        is_pooled = _is_pooled(connection)
        if not is_pooled:
            # Django turns prepared statements off, but these few are worth planning once: without them a batch takes 15 to
            # 45 % longer. They belong to a session, which behind a pooler is another one in the next transaction.
            raw.prepare_threshold = 0
            with connection.cursor() as cursor:
                cursor.execute(LIMITS_OF_SESSION_SQL)
        session = _sessions[raw] = Session(is_pooled=is_pooled)
    return session


def _is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Whether a pooler such as PgBouncer answers for the server: it tells its clients a process id of its own making.

    In its session mode as well, which then only misses the prepared statements.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return bool(pid != connection.connection.info.backend_pid)
