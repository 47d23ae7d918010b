"""Publishing: every event of the log goes to the broker, in order, and the position moves when the broker has confirmed.

So a crash at any moment repeats events and skips none. What is read is committed, and has no gaps, since it ends at the head
of one snapshot. The position is a row of the database that the log is in, and has the mark of its event: whatever is put
back, both are, and the log goes on from an event that was published as it is there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scores import metrics
from scores.log.head import EVENT_MARK_SQL, Head, Log
from scores.log.lease import Lease

from . import events
from .broker import Sink

# In a portion, all of which comes again after a crash. It is the message that costs.
MOST_MESSAGES, MOST_EVENTS = 1_000, 5_000

LOOK_SQL = f"""
    SELECT left(f.epoch::text, 8), f.seq, f.mark, coalesce({EVENT_MARK_SQL.format("f.seq")}, 0)
    FROM followers f WHERE f.name = %s
"""  # noqa: S608  constants
READ_SQL = f"SELECT {events.COLUMNS_SQL} FROM score_events WHERE seq > %s AND seq <= %s ORDER BY seq LIMIT %s"  # noqa: S608
# Only while the log has the very event that was sent last: between reading and confirming, the database may have been put
# back together with the position, and then what the log writes next under these numbers has not been published.
MOVE_SQL = f"""
    UPDATE followers f SET epoch = b.epoch, seq = %(last)s, mark = %(mark)s
    FROM leaderboards b
    WHERE f.name = %(name)s AND b.name = %(log)s AND f.seq = %(before)s AND f.mark = %(mark_before)s
        AND coalesce({EVENT_MARK_SQL.format("%(last)s")}, 0) = %(mark)s
"""  # noqa: S608  constants


class Position(NamedTuple):
    """The newest event that was published; `mark_there` is of the event that the log has in its place, or 0."""

    epoch: str | None  # the first part of the origin
    seq: int
    mark: int
    mark_there: int

    def is_of(self, head: Head) -> bool:
        """Whether the log has the very event. Within an epoch, an event that is gone was archived, and proves nothing."""
        if self.seq > head.seq:
            return False
        return self.mark == self.mark_there or (self.mark_there == 0 and self.epoch == head.origin.partition("-")[0])


class Publisher:
    """Publishes the log to `sink`, `batch` events in a message, while `lease` is held. It belongs to one thread.

    Two that publish at once repeat events, and skip none: the position moves by compare-and-set.
    """

    def __init__(self, log: Log, lease: Lease, sink: Sink, *, batch: int) -> None:
        self._log = log
        self._lease = lease
        self._sink = sink
        self._batch = batch
        self._is_open = False
        self._done: tuple[str, int] | None = None  # the end of the log when there was nothing left

    def publish(self) -> bool:
        """Publish a portion of the log. Returns whether there may be more. Raises `BrokerFailed` and `DatabaseError`."""
        head = self._log.head()
        if (head.origin, head.seq) == self._done:
            return False
        with self._log.snapshot() as head:
            position = self._look()
            if position is None:
                return False  # the lease is being taken
            is_same = position.is_of(head)
            before = position.seq if is_same else 0
            found = self._read(before, head.seq)
            last = found[-1].seq if found else head.seq
            mark = self._log.mark_of(last) or 0
        metrics.published_seq.set(before)
        metrics.publish_lag.set(head.seq - before)
        if not self._is_open:
            self._sink.open()  # whoever looks for the exchange finds it, also when there is nothing to publish
            self._is_open = True
        if is_same and last == before:
            self._done = (head.origin, head.seq)
            return False
        if not self._lease.held:
            return False  # stood still since the step began: another may be further by now
        if found:
            self._sink.send(events.messages(found, head.origin, batch=self._batch))
        if self._move(position, last, mark):
            metrics.published_seq.set(last)
            metrics.publish_lag.set(head.seq - last)
        return True

    def end(self) -> None:
        """Leave it to another process."""
        self._sink.close()
        metrics.published_seq.set(math.nan)
        metrics.publish_lag.set(math.nan)

    def _look(self) -> Position | None:
        with self._log.connection.cursor() as cursor:
            cursor.execute(LOOK_SQL, [self._lease.name])
            row = cursor.fetchone()
        return Position(*row) if row else None

    def _read(self, after: int, up_to: int) -> list[events.Event]:
        with self._log.connection.cursor() as cursor:
            cursor.execute(READ_SQL, [after, up_to, min(MOST_MESSAGES * self._batch, MOST_EVENTS)])
            return [events.Event(*row) for row in cursor.fetchall()]

    def _move(self, before: Position, last: int, mark: int) -> bool:
        values: dict[str, str | int] = {
            "name": self._lease.name,
            "log": self._log.name,
            "before": before.seq,
            "mark_before": before.mark,
            "last": last,
            "mark": mark,
        }
        with self._log.connection.cursor() as cursor:
            cursor.execute(MOVE_SQL, values)
            return bool(cursor.rowcount)
