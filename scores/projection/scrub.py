"""The sweep: walks the whole board, a few members at a time, and finds what no size and no number gives away.

A total that somebody changed by hand in Redis leaves the copy at its event and of its size. Only comparing shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from django.db import transaction

from scores import metrics

from .leaderboard import Copy

logger = logging.getLogger(__name__)

MEMBERS_PER_STEP = 500  # a fifth of a millisecond of Redis


class Scrub:
    """Where the walk over one copy is, and what it has found since the process started."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self.compared = 0  # members
        self.repaired = 0  # members
        self.rounds = 0  # times it came to the end of the board
        self._after = ""  # user id of the last member compared

    def step(self) -> int:
        """Compare the next members with the table and mend those that are wrong; returns how many were.

        Comparing takes no lock, so whoever got an event meanwhile looks wrong and is left to the next round.
        Raises `CopyUnusable` and what the database raises.
        """
        with self._copy.log.snapshot() as head:
            rows = self._copy.log.visible_totals_from(self._after, limit=MEMBERS_PER_STEP)
        found = self._copy.totals_of([user_id for user_id, _ in rows]) if rows else None
        mended = 0
        if found is not None and found.origin == head.origin:
            suspects = {user for (user, total), score in zip(rows, found.scores, strict=True) if total != score}
            if suspects:
                suspects -= self._copy.log.touched_after(min(head.seq, found.seq), suspects)
            if suspects:
                mended = mend(self._copy, suspects)
        self.compared += len(rows)
        self.repaired += mended
        metrics.sweep_compared.inc(len(rows))
        metrics.sweep_repaired.inc(mended)
        if len(rows) < MEMBERS_PER_STEP:
            self.rounds += 1
            self._after = ""
        else:
            self._after = rows[-1][0]
        return mended


def mend(copy: Copy, user_ids: Collection[str]) -> int:
    """Set these members to what the table says, and return how many were wrong.

    Under the lock of the log, because a total read without it might be older than the one it overwrites. That is a
    wait for the writers, of a few milliseconds, and only when something was found.
    """
    with transaction.atomic(using=copy.log.alias):
        head = copy.log.locked_head()
        copy.catch_up(head)
        truth = dict(copy.log.visible().filter(user_id__in=user_ids).values_list("user_id", "score"))
        wrong = copy.mend(
            origin=head.origin, seq=head.seq, totals={user_id: truth.get(user_id) for user_id in user_ids}
        )
    if wrong:
        logger.warning("%d totals in Redis were not those of the database, and have been mended", wrong)
    return wrong
