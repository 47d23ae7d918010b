"""Milestones: how far from the top of the board every two-hundredth row of it is, so that a rank is not counted from the top.

PostgreSQL knows the order of the board and not the positions in it: without Redis, the rank of a user among a million is a
count of half a million rows. With these it is a count of two hundred. See docs/adr/0021.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from scores.exceptions import AWAY
from scores.models import MAX_TOTAL, ScoreEvent

from .head import Head, Log, log

logger = logging.getLogger(__name__)

EVERY = 200  # rows from one milestone to the next
FEW = 10_000  # users, who are counted as fast as milestones are looked up
MAX_BEHIND = 5_000  # events; beyond that, counting is no slower than catching up
LOOK_EVERY_S = 0.5
UNUSED_S = 60.0  # until nobody keeps them any more
LAST_S = 60.0  # until they are surveyed anew: pieces grow uneven, and who edits the table by hand writes no event

Key = tuple[int, str]  # a score and a user id: the order of the board, from its end

TOP: Key = MAX_TOTAL + 1, ""  # better than every row

BUILD_SQL = """
    SELECT score, user_id FROM (
        SELECT s.score, s.user_id, row_number() OVER (ORDER BY s.score DESC, s.user_id DESC) AS place FROM user_scores s
        WHERE NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = s.user_id)
    ) AS placed
    WHERE place %% %(every)s = 1 AND place > 1
    ORDER BY score, user_id
"""
EVENTS_SQL = "SELECT kind, user_id, points, total FROM score_events WHERE seq > %s AND seq <= %s ORDER BY seq"


class RankIndex(NamedTuple):
    """The board in pieces, as of event `seq` of the log `origin`.

    Piece n begins after the milestone n - 1 and ends with milestone n, its best row; the last has no end. Of the first
    piece, the worst, the count is not kept: nothing is below it.
    """

    origin: str
    seq: int
    keys: list[Key]  # of the milestones, rising
    counts: list[int]  # of the rows on the board in each piece, one more than there are keys

    def above(self, score: int) -> tuple[int, Key]:
        """How many rows are certainly better than `score`; the others that are end with the key."""
        piece = bisect_left(self.keys, (score + 1, ""))
        return sum(self.counts[piece + 1 :]), self._end_of(piece)

    def after(self, offset: int) -> tuple[int, Key]:
        """How to find the row after the first `offset`: how many to leave out, from the key on and downwards."""
        left = offset
        for piece in range(len(self.keys), 0, -1):
            if left < self.counts[piece]:
                return left, self._end_of(piece)
            left -= self.counts[piece]
        return left, self._end_of(0)

    def moved_to(self, seq: int, events: Iterable[tuple[str, str, int, int]]) -> RankIndex:
        """As of event `seq`, by the events until then: each a kind, a user id, the points and the total."""
        counts = self.counts.copy()
        for kind, user_id, points, total in events:
            # Whose first event it is was nowhere, and counts as leaving the score of 0: in the piece that is not kept.
            if kind != ScoreEvent.Kind.UNBLOCK:
                before = total if kind == ScoreEvent.Kind.BLOCK else total - points
                counts[bisect_left(self.keys, (before, user_id))] -= 1
            if kind != ScoreEvent.Kind.BLOCK:
                counts[bisect_left(self.keys, (total, user_id))] += 1
        return self._replace(seq=seq, counts=counts)

    def _end_of(self, piece: int) -> Key:
        return self.keys[piece] if piece < len(self.keys) else TOP


NONE = RankIndex("", 0, [], [0])  # counts from the top


class RankIndexer:
    """Makes milestones when somebody needs them, and keeps them up to date for as long as somebody does.

    In a thread of its own: looking at every row of a large board takes a second, and meanwhile questions are answered by
    counting.
    """

    def __init__(self, log: Log, *, every: int = EVERY) -> None:
        self._log = log
        self._every = every
        self._newest: RankIndex | None = None
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None
        self._changing = threading.Lock()  # of what there is and of who keeps it
        self._ended = threading.Event()

    def at(self, head: Head) -> RankIndex:
        """The milestones as of `head`, whose `snapshot` this is; `NONE` while there are none for it."""
        self._asked_at = time.monotonic()
        with self._changing:
            if self._thread is None:
                self._ended.clear()
                self._thread = threading.Thread(target=self._run, name="rank indexer", daemon=True)
                self._thread.start()
        return self._moved_to(head) or NONE

    def stop(self, timeout_s: float = 5.0) -> None:
        self._ended.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def build(self) -> None:
        """Look at the whole board."""
        with self._log.snapshot() as head, self._log.connection.cursor() as cursor:
            cursor.execute(BUILD_SQL, {"every": self._every})
            # Not at a score of 0: only where nothing is kept can a first event be told from a change (see `moved_to`).
            keys = [(score, user_id) for score, user_id in cursor.fetchall() if score > 0]
        self._newest = RankIndex(head.origin, head.seq, keys, [0] + [self._every] * len(keys))

    def _run(self) -> None:
        try:
            while self._is_wanted():
                built_at = time.monotonic()
                self.build()
                while self._is_wanted() and time.monotonic() - built_at < LAST_S:
                    with self._log.snapshot() as head:
                        if self._moved_to(head) is None:
                            break
                    self._ended.wait(LOOK_EVERY_S)
        except AWAY:  # it may be another one when it is back; who asks counts until then
            self._ended.wait(LOOK_EVERY_S)
        except Exception:
            logger.exception("The rank indexer failed; the next question starts it again")
            self._ended.wait(LOOK_EVERY_S)
        finally:
            with self._changing:
                self._newest = self._thread = None
            self._log.connection.close()

    def _is_wanted(self) -> bool:
        return not self._ended.is_set() and time.monotonic() - self._asked_at < UNUSED_S

    def _moved_to(self, head: Head) -> RankIndex | None:
        """The newest there are, moved to `head`; `None` if that cannot be done."""
        known = self._newest
        if known is None or known.origin != head.origin or not 0 <= head.seq - known.seq <= MAX_BEHIND:
            return None
        if known.seq == head.seq:
            return known
        with self._log.connection.cursor() as cursor:
            cursor.execute(EVENTS_SQL, [known.seq, head.seq])
            events = cursor.fetchall()
        if len(events) < head.seq - known.seq:  # the log was cut off
            return None
        moved = known.moved_to(head.seq, events)
        with self._changing:
            if self._newest is known:  # else they were given up meanwhile, or somebody moved them further
                self._newest = moved
        return moved


rank_indexer = RankIndexer(log)
