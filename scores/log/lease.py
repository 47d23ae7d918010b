"""A lease on a follower's row: of all processes, the one that holds it does the follower's work.

Each renewal is a statement of its own, so nothing outlives it: a session's lock would stay behind in the session of a
pooler, and with it the lock of a process that was killed. See docs/adr/0033.
"""

from __future__ import annotations

import math
import secrets
import time
from uuid import UUID

from django.db import transaction

from .head import Log

LEASE_S = 2.0
RENEW_EVERY_S = 0.5
# A row that is not to be had is not touched: all processes ask all the time, and a lock would be a write each time. If two
# ask at once, the second waits for the first and then looks at the row again. `lease_until` far ahead is from before the
# database's clock was put back, or nobody could take the lease over until the clock is there again.
TAKE_SQL = """
    UPDATE followers SET holder = %(holder)s, is_dedicated = %(is_dedicated)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
    WHERE name = %(name)s AND (
        lease_until IS NULL OR lease_until <= clock_timestamp()
        OR lease_until > clock_timestamp() + make_interval(secs => 2 * %(lease_s)s)
        OR (%(is_dedicated)s AND NOT is_dedicated)
    )
"""
# Whoever is still named there has been the only holder since, even if the lease had ended.
RENEW_SQL = """
    UPDATE followers SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
    WHERE name = %(name)s AND holder = %(holder)s
"""
BEGIN_SQL = """
    INSERT INTO followers (name, holder, is_dedicated, lease_until)
    SELECT %(name)s, %(holder)s, %(is_dedicated)s, clock_timestamp() + make_interval(secs => %(lease_s)s)
    WHERE NOT EXISTS (SELECT FROM followers WHERE name = %(name)s)
    ON CONFLICT DO NOTHING
"""
RELEASE_SQL = "UPDATE followers SET holder = '', lease_until = NULL WHERE name = %s AND holder = %s"
POSITION_SQL = "SELECT seq FROM followers WHERE name = %s AND epoch = %s"
# The row is locked from here to the end of the caller's transaction, and a lease that cannot be renewed or taken over
# would outlast a process that stops there; so the server ends such a transaction after a second.
ADVANCE_SQL = """
    UPDATE followers SET epoch = %(epoch)s, seq = %(last)s
    WHERE name = %(name)s AND holder = %(holder)s AND lease_until > clock_timestamp()
        AND CASE WHEN epoch = %(epoch)s THEN seq ELSE 0 END = %(before)s
    RETURNING set_config('idle_in_transaction_session_timeout', '1000', true)
"""


class Lease:
    """The lease of follower `name`. Each object is a holder of its own; `hold` every `RENEW_EVERY_S` keeps it.

    A dedicated process (`manage.py follow`) takes the lease from one that is not. The ousted holder learns of it at its
    next renewal, so for `RENEW_EVERY_S` two may believe that they hold it. Whatever must not be done twice is guarded by
    a position that moves by compare-and-set.

    All methods raise Django's `DatabaseError` while the database is away.
    """

    def __init__(self, log: Log, name: str, *, is_dedicated: bool) -> None:
        self.log = log
        self.name = name
        self.is_dedicated = is_dedicated
        self._holder = secrets.token_hex(16)
        self.term = 0  # how often this holder has taken the lease: as long as it is the same, nobody else had it
        self._is_named = False  # in the row, as far as this holder knows
        self._held_until = -math.inf  # monotonic seconds

    @property
    def held(self) -> bool:
        """Whether this holder has the lease, without asking the database. Any thread may ask, between any two steps.

        By this process's clock, from before the renewal was sent: a process that was stopped for longer than the lease
        knows at once that another may have it.
        """
        return time.monotonic() < self._held_until

    def hold(self) -> bool:
        """Take the lease if it is to be had, or renew it. Returns whether this holder has it."""
        self.log.drop_dead_connection()
        sent_at = time.monotonic()
        if not (self._is_named and self._execute(RENEW_SQL)):
            self._is_named = self._execute(TAKE_SQL) or self._execute(BEGIN_SQL)
            self.term += self._is_named
        self._held_until = sent_at + LEASE_S if self._is_named else -math.inf
        return self.held

    def release(self) -> None:
        """Give the lease up, if this holder has it: the next who asks gets it."""
        self._held_until = -math.inf
        self._is_named = False
        with self.log.connection.cursor() as cursor:
            cursor.execute(RELEASE_SQL, [self.name, self._holder])

    def position(self, epoch: UUID) -> int:
        """The newest event of this epoch that the follower has done; 0 if it has done none of it."""
        with self.log.connection.cursor() as cursor:
            cursor.execute(POSITION_SQL, [self.name, epoch])
            row = cursor.fetchone()
        return row[0] if row else 0

    def advance(self, epoch: UUID, before: int, last: int) -> bool:
        """Move the position from `before` to `last`, if it is there and this holder has the lease.

        In the transaction of the caller, who undoes it if the answer is `False`. Nobody can renew the lease or take it
        over until that transaction ends, so this is the last statement in it; the server ends it if it then idles for
        a second.
        """
        if not self.log.connection.in_atomic_block:
            raise transaction.TransactionManagementError(
                "advance belongs to the transaction of the work that it counts"
            )
        return self._execute(ADVANCE_SQL, epoch=epoch, before=before, last=last)

    def _execute(self, sql: str, **values: UUID | int) -> bool:
        """Whether the statement wrote the row."""
        mine: dict[str, str | bool | float] = {
            "name": self.name,
            "holder": self._holder,
            "is_dedicated": self.is_dedicated,
            "lease_s": LEASE_S,
        }
        with self.log.connection.cursor() as cursor:
            cursor.execute(sql, {**mine, **values})
            written: int = cursor.rowcount
        return written == 1
