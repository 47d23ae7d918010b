"""The rank index: how many members are above every two-hundredth row of the board.

PostgreSQL knows the order of the board but not the positions in it: without Redis, the rank of a user among a million
is a count of half a million rows. With the index it is a count of two hundred. See docs/adr/0021.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from django.db import Error as DatabaseError

from scores.models import MAX_TOTAL, ScoreEvent

from .head import KNOWN_KINDS, Head, Log, log

logger = logging.getLogger(__name__)

SEGMENT_ROWS = 200
SMALL_BOARD = 10_000  # members; up to here, counting is as fast as using the index
MAX_LAG_EVENTS = 5_000  # beyond that, counting is no slower than catching up
POLL_INTERVAL_S = 0.5
IDLE_TIMEOUT_S = 60.0  # the index is dropped when it was not used for so long
MAX_AGE_S = 60.0  # then it is built again: segments grow uneven, and editing the table by hand writes no event

Key = tuple[int, str]  # a score and a user id: sorts as the board does, worst first

TOP: Key = MAX_TOTAL + 1, ""  # above every row

BUILD_SQL = """
    SELECT score, user_id FROM (
        SELECT s.score, s.user_id, row_number() OVER (ORDER BY s.score DESC, s.user_id DESC) AS place FROM user_scores s
        WHERE NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = s.user_id)
    ) AS placed
    WHERE place %% %(rows)s = 1 AND place > 1
    ORDER BY score, user_id
"""
# With all of them, so that a missing one is noticed; those that change no total that is shown have no kind.
EVENTS_SQL = """
    SELECT CASE WHEN stream IS NULL AND hidden IS NOT TRUE THEN kind ELSE '' END, user_id, points, total
    FROM score_events WHERE seq > %s AND seq <= %s ORDER BY seq
"""


class RankIndex(NamedTuple):
    """The board in segments, worst first, as of event `seq` of the log `origin`.

    Segment n begins above key n - 1 and ends with key n, its best row; the last segment has no end. The count of
    segment 0, the worst, is not maintained: no segment is below it.
    """

    origin: str
    seq: int
    keys: list[Key]  # ascending
    counts: list[int]  # rows on the board in each segment: one more than there are keys

    def above(self, score: int) -> tuple[int, Key]:
        """The number of rows in the segments above `score`'s, and the key up to which the caller counts the rest."""
        segment = bisect_left(self.keys, (score + 1, ""))
        return sum(self.counts[segment + 1 :]), self._end_of(segment)

    def after(self, offset: int) -> tuple[int, Key]:
        """Where the row after the first `offset` is: the number of rows to skip, downwards from the key."""
        skipped = offset
        for segment in range(len(self.keys), 0, -1):
            if skipped < self.counts[segment]:
                return skipped, self._end_of(segment)
            skipped -= self.counts[segment]
        return skipped, self._end_of(0)

    def moved_to(self, seq: int, events: Iterable[tuple[str, str, int, int]]) -> RankIndex:
        """The index as of event `seq`. `events` are those up to it: kind, user id, points and total of each."""
        counts = self.counts.copy()
        for kind, user_id, points, total in events:
            if kind not in KNOWN_KINDS:
                continue
            # A user's first event counts as leaving a score of 0: in segment 0, whose count is not maintained.
            if kind != ScoreEvent.Kind.UNBLOCK:
                before = total if kind == ScoreEvent.Kind.BLOCK else total - points
                counts[bisect_left(self.keys, (before, user_id))] -= 1
            if kind != ScoreEvent.Kind.BLOCK:
                counts[bisect_left(self.keys, (total, user_id))] += 1
        return self._replace(seq=seq, counts=counts)

    def _end_of(self, segment: int) -> Key:
        return self.keys[segment] if segment < len(self.keys) else TOP


EMPTY = RankIndex("", 0, [], [0])  # with it, every count starts at the top


class RankIndexer:
    """Builds a rank index at the first use and keeps it up to date while it is used.

    In its own thread: reading every row of a large board takes a second, and until then reads count.
    """

    def __init__(self, log: Log, *, segment_rows: int = SEGMENT_ROWS) -> None:
        self._log = log
        self._segment_rows = segment_rows
        self._newest: RankIndex | None = None
        self._used_at = 0.0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # guards the index and its thread
        self._ended = threading.Event()

    def at(self, head: Head) -> RankIndex:
        """The index as of `head`; `EMPTY` while there is none for it. Call it within the `snapshot` of `head`."""
        self._used_at = time.monotonic()
        with self._lock:
            if self._thread is None:
                self._ended.clear()
                self._thread = threading.Thread(target=self._run, name="rank indexer", daemon=True)
                self._thread.start()
        return self._moved_to(head) or EMPTY

    def stop(self, timeout_s: float = 5.0) -> None:
        self._ended.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def build(self) -> None:
        """Build the index from the whole board."""
        with self._log.snapshot() as head, self._log.connection.cursor() as cursor:
            cursor.execute(BUILD_SQL, {"rows": self._segment_rows})
            # No key at a score of 0: a user's first event counts as leaving it, which only segment 0 allows (see
            # `moved_to`).
            keys = [(score, user_id) for score, user_id in cursor.fetchall() if score > 0]
        self._newest = RankIndex(head.origin, head.seq, keys, [0] + [self._segment_rows] * len(keys))

    def _run(self) -> None:
        try:
            while self._is_used():
                built_at = time.monotonic()
                self.build()
                while self._is_used() and time.monotonic() - built_at < MAX_AGE_S:
                    with self._log.snapshot() as head:
                        if self._moved_to(head) is None:
                            break
                    self._ended.wait(POLL_INTERVAL_S)
        except DatabaseError:  # it may come back as another database, so the index is dropped, and reads count
            self._ended.wait(POLL_INTERVAL_S)
        except Exception:
            logger.exception("The rank indexer failed; the next read that needs it starts it again")
            self._ended.wait(POLL_INTERVAL_S)
        finally:
            with self._lock:
                self._newest = self._thread = None
            self._log.connection.close()

    def _is_used(self) -> bool:
        return not self._ended.is_set() and time.monotonic() - self._used_at < IDLE_TIMEOUT_S

    def _moved_to(self, head: Head) -> RankIndex | None:
        """The newest index, moved to `head`; `None` if that is not possible."""
        newest = self._newest
        if newest is None or newest.origin != head.origin or not 0 <= head.seq - newest.seq <= MAX_LAG_EVENTS:
            return None
        if newest.seq == head.seq:
            return newest
        with self._log.connection.cursor() as cursor:
            cursor.execute(EVENTS_SQL, [newest.seq, head.seq])
            events = cursor.fetchall()
        if len(events) < head.seq - newest.seq:  # old events were deleted from the log
            return None
        moved = newest.moved_to(head.seq, events)
        with self._lock:
            if self._newest is newest:  # otherwise the index was dropped, or another thread has moved it
                self._newest = moved
        return moved


rank_indexer = RankIndexer(log)
