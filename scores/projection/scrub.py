"""The scrub: compares the whole board with the totals, a few members at a time.

A score that was changed by hand in Redis leaves the size and the seq of the copy as they were. Only a comparison finds
it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from django.db import transaction

from scores import metrics
from scores.log.head import Head

from .leaderboard import Copy

logger = logging.getLogger(__name__)

MEMBERS_PER_STEP = 500  # 0.2 ms of Redis


class Scrub:
    """The position of the scrub in one copy, and its results since the process started."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self.compared = 0  # members
        self.repaired = 0  # members
        self.rounds = 0  # times it reached the end of the board
        self._after = ""  # user id of the last member compared
        self._begun: Head | None = None  # the head at the beginning of the round
        self._rows = 0  # seen in the round

    def step(self) -> int:
        """Compare the next members with the table and repair the wrong ones; returns how many were wrong.

        The comparison takes no lock, so users with an event between the two reads look wrong; the next round checks
        them. Raises `CopyUnusable` or Django's `DatabaseError`.
        """
        with self._copy.log.snapshot() as head:
            rows = self._copy.log.visible_totals_from(self._after, limit=MEMBERS_PER_STEP)
        totals = self._copy.totals_of([user_id for user_id, _ in rows]) if rows else None
        repaired = 0
        if totals is not None and totals.origin == head.origin:
            suspects = {user for (user, total), score in zip(rows, totals.scores, strict=True) if total != score}
            if suspects:
                suspects -= self._copy.log.touched_after(min(head.seq, totals.seq), suspects)
            if suspects:
                repaired = mend(self._copy, suspects)
        if self._after == "":
            self._begun, self._rows = head, 0
        self._rows += len(rows)
        self.compared += len(rows)
        self.repaired += repaired
        metrics.sweep_compared.inc(len(rows))
        metrics.sweep_repaired.inc(repaired)
        if len(rows) < MEMBERS_PER_STEP:
            self.rounds += 1
            self._after = ""
            if self._begun == head and self._rows != head.members:  # rows of the table were deleted or added by hand
                self._copy.log.mend_head()
        else:
            self._after = rows[-1][0]
        return repaired


def mend(copy: Copy, user_ids: Collection[str]) -> int:
    """Set these members to their totals in the table; returns how many were wrong.

    Under the lock on the log's head, because a total read without it could be older than the score it overwrites.
    Writers wait a few milliseconds for it, and only if the scrub found something.
    """
    with transaction.atomic(using=copy.log.alias):
        head = copy.log.locked_head()
        copy.catch_up(head)
        table = dict(copy.log.visible().filter(user_id__in=user_ids).values_list("user_id", "score"))
        wrong = copy.mend(
            origin=head.origin, seq=head.seq, totals={user_id: table.get(user_id) for user_id in user_ids}
        )
    if wrong:
        logger.warning("Repaired %d scores in Redis that differed from the totals in the database", wrong)
    return wrong
