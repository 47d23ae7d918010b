"""The clock of the log, and the rollover: which stretch of the log a period is.

Time in the log never goes back and never runs ahead: an event is written at `at`, which is decided under the lock on the
head. A period ends before the first event that is written at its end or later. So which period an event is in is a
comparison of its seq, whatever clocks do afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from django.db import transaction

if TYPE_CHECKING:
    from .head import Log

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_AHEAD = timedelta(seconds=60)  # of the database's clock before this process's
# Of head `b`, which is locked. A statement after the one that waited for the lock: the clock must not be from before the
# wait. At most this process's clock and a minute, so that a jump of the database's clock ends no period early. While the
# clock is behind the log, time goes on by up to 0.1 ms for each transaction, at random: two histories of a database that
# was put back then, which would otherwise count alike, still write the same seq at different times (docs/adr/0024).
AT_SQL = "greatest(b.at + make_interval(secs => ceil(random() * 100) / 1e6), least(clock_timestamp(), %s))"
# By set and not by board, so that a thousand boards which end at one midnight take milliseconds. A period that nobody was
# there to begin begins and ends at once, with its true boundaries.
END_SQL = "UPDATE periods SET last_seq = %s WHERE last_seq IS NULL AND ends_at <= %s"
BEGIN_SQL = "UPDATE periods SET first_seq = %s WHERE first_seq IS NULL AND (starts_at IS NULL OR starts_at <= %s)"
NEXT_BOUNDARY_SQL = """
    UPDATE leaderboards SET calendar = calendar + 1, next_boundary = least(
        (SELECT min(ends_at) FROM periods WHERE last_seq IS NULL),
        (SELECT min(starts_at) FROM periods WHERE first_seq IS NULL)
    ) WHERE name = %s
"""
# For transactions that change boards and standings: they must not hold up others behind a process that stopped.
LIMITS_SQL = """
    SELECT set_config('lock_timeout', '1500', true), set_config('idle_in_transaction_session_timeout', '1000', true)
"""


class Cursor(Protocol):
    """Of psycopg or of Django."""

    def execute(self, query: Any, params: Sequence[Any] | None = None, /) -> Any: ...

    def fetchone(self) -> Any: ...


def latest() -> datetime:
    """The parameter of `AT_SQL`: the latest moment that this process takes for now."""
    return datetime.now(UTC) + MAX_AHEAD


def mark_at(at: datetime) -> int:
    """The mark of an event that was written `at`: its microseconds since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def roll_over(cursor: Cursor, log: str, *, seq: int, at: datetime) -> None:
    """End and begin what is due at `at`, after event `seq` of the log. Under the lock on the head, which is at `seq`."""
    cursor.execute(END_SQL, [seq, at])
    cursor.execute(BEGIN_SQL, [seq + 1, at])
    cursor.execute(NEXT_BOUNDARY_SQL, [log])


def advance(cursor: Cursor, log: str) -> tuple[int, datetime] | None:
    """Lock the head until the transaction ends, and let the time of the log go on: its seq, and `at`. `None`: no head.

    Waits at most 1.5 s for the lock.
    """
    cursor.execute(LIMITS_SQL)
    cursor.execute("SELECT FROM leaderboards WHERE name = %s FOR UPDATE", [log])
    cursor.execute(f"UPDATE leaderboards b SET at = {AT_SQL} WHERE b.name = %s RETURNING b.seq, b.at", [latest(), log])  # noqa: S608
    found: tuple[int, datetime] | None = cursor.fetchone()
    return found


# Without the lock, four times a second in each process.
IS_DUE_SQL = "SELECT next_boundary <= greatest(at, least(clock_timestamp(), %s)) FROM leaderboards WHERE name = %s"


def roll_over_if_due(log: Log) -> bool:
    """Roll over if nobody has written since the boundary; returns whether this call did.

    So a period ends in time although nobody scores. Two processes may come at once, and one of them finds it done.
    """
    with log.connection.cursor() as cursor:
        cursor.execute(IS_DUE_SQL, [latest(), log.name])
        row = cursor.fetchone()
    if row is None or not row[0]:
        return False
    with transaction.atomic(using=log.alias), log.connection.cursor() as cursor:
        found = advance(cursor, log.name)
        cursor.execute("SELECT next_boundary <= at FROM leaderboards WHERE name = %s", [log.name])
        row = cursor.fetchone()
        if found is None or row is None or not row[0]:
            return False
        seq, at = found
        roll_over(cursor, log.name, seq=seq, at=at)
    return True
