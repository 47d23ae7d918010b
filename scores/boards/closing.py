"""Closing: a period that has ended and settled gets its results, once, and then its rewards and a message.

What is voided before the settling time is over changes the results; what is voided later changes the standings only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from django.db import transaction

from scores.exceptions import Refused
from scores.log.head import Log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.periods import advance, latest
from scores.log.writer import MAX_PER_TRANSACTION, Writer
from scores.models import Board

from .documents import places_of
from .fold import rewarder

logger = logging.getLogger(__name__)

LEAST_RESULTS = 100  # places that are written down, as far as there are any; more if more have a reward
CLOSED_AT_ONCE = 100
# An archived board's last period has ended when the board was archived. `least` ignores NULL.
SETTLED_SQL = """
    SELECT p.board_id, p.number FROM periods p JOIN boards b ON b.id = p.board_id
    WHERE p.last_seq IS NOT NULL AND p.closed_at IS NULL
      AND least(p.ends_at, b.archived_at) + make_interval(secs => b.settle_s) <= {at}
    ORDER BY p.ends_at NULLS LAST, p.board_id, p.number LIMIT %s
"""
# Without the lock, to look whether it is worth taking.
ABOUT_NOW_SQL = "(SELECT greatest(l.at, least(clock_timestamp(), %s)) FROM leaderboards l WHERE l.name = %s)"
# The row of the position is locked, so that the results are as of one position of the standings.
POSITION_SQL = "SELECT seq FROM board_positions WHERE board_id = %s AND log = %s FOR SHARE"
CLOSE_SQL = """
    UPDATE periods p SET closed_at = l.at FROM leaderboards l
    WHERE p.board_id = %s AND p.number = %s AND p.closed_at IS NULL AND l.name = %s
    RETURNING p.closed_at, p.ends_at
"""
RESULTS_SQL = """
    INSERT INTO results (board_id, period, place, user_id, score, reached_seq, reward, refusal)
    SELECT %(board)s, %(period)s, place, user_id, %(sign)s * key, reached_seq,
           coalesce((%(rewards)s::bigint[])[place], 0), ''
    FROM (
        SELECT row_number() OVER (ORDER BY key DESC, tie DESC, user_id DESC) AS place, user_id, key, reached_seq
        FROM standings WHERE board_id = %(board)s AND period = %(period)s AND NOT hidden
        ORDER BY key DESC, tie DESC, user_id DESC LIMIT %(limit)s
    ) AS top
"""
TELL_SQL = """
    INSERT INTO webhook_deliveries (board_id, period, url, attempts, next_at, last_error)
    VALUES (%s, %s, '', 0, clock_timestamp(), '')
"""
UNREWARDED_SQL = """
    SELECT r.board_id, b.name, r.period, r.place, r.user_id, r.reward FROM results r JOIN boards b ON b.id = r.board_id
    WHERE r.reward > 0 AND r.reward_seq IS NULL AND r.refusal = '' ORDER BY r.board_id, r.period, r.place LIMIT %s
"""
REWARDED_SQL = """
    UPDATE results r SET reward_seq = t.seq, refusal = t.refusal
    FROM unnest(%s::int[], %s::int[], %s::int[], %s::bigint[], %s::text[]) AS t (board_id, period, place, seq, refusal)
    WHERE r.board_id = t.board_id AND r.period = t.period AND r.place = t.place
"""


class Due(NamedTuple):
    """A reward that nobody has had yet."""

    board_id: int
    board: str
    period: int
    place: int
    user_id: str
    points: int

    @property
    def change(self) -> Change:
        # The key holds blanks, which the key of no request has, and there is one place of a user in a period. Whoever died
        # between the event and the row of the result gives the reward again, and gets the same event.
        return Change(
            Kind.INCREMENT,
            self.user_id,
            self.points,
            idempotency_key=f"reward {self.board_id} {self.period}",
            actor=rewarder(self.board),
            reason=f"Place {self.place} in period {self.period} of {self.board}",
        )


class Closer:
    """Closes what is due, for one follower. Two at once do no harm: each period has one row, which one of them changes."""

    def __init__(self, log: Log, writer: Writer) -> None:
        self._log = log
        self._writer = writer
        # By board and period: an event after which nothing was written before the settling time was over.
        self._settled: dict[tuple[int, int], int] = {}

    def close(self) -> bool:
        """A step: look what has settled, close what the standings have come to, give what is owed.

        Returns whether there may be more to do at once.
        """
        self._look()
        waiting = len(self._settled)
        for (board, period), seq in list(self._settled.items()):
            if self._close(board, period, seq):
                del self._settled[board, period]
        has_closed = len(self._settled) < waiting
        return self._reward() or has_closed

    def _look(self) -> None:
        """Note what has settled, and the end of the log then.

        Under the lock on the head: a writer that came before has written at an earlier time, and has committed; whoever
        comes later writes at a time after the settling. So the results have all of the voids that were in time.
        """
        with self._log.connection.cursor() as cursor:
            cursor.execute(SETTLED_SQL.format(at=ABOUT_NOW_SQL), [latest(), self._log.name, CLOSED_AT_ONCE])
            about = {(board, period) for board, period in cursor.fetchall()}
        self._settled = {
            key: seq for key, seq in self._settled.items() if key in about
        }  # or somebody else has closed it
        if about <= self._settled.keys():
            return
        with transaction.atomic(using=self._log.alias), self._log.connection.cursor() as cursor:
            found = advance(cursor, self._log.name)
            if found is None:
                return
            seq, at = found
            cursor.execute(SETTLED_SQL.format(at="%s"), [at, CLOSED_AT_ONCE])
            for board, period in cursor.fetchall():
                self._settled.setdefault((board, period), seq)

    def _close(self, board_id: int, period: int, seq: int) -> bool:
        """Whether the period is closed now, or gone: by this call, or by somebody else's."""
        with transaction.atomic(using=self._log.alias), self._log.connection.cursor() as cursor:
            cursor.execute(POSITION_SQL, [board_id, self._log.name])
            position = cursor.fetchone()
            if position is None or position[0] < seq:
                return False
            board = Board.objects.using(self._log.alias).filter(id=board_id).first()
            if board is None:
                return True
            cursor.execute(CLOSE_SQL, [board_id, period, self._log.name])
            closed = cursor.fetchone()
            if closed is None:
                return True
            is_new = _is_new(board, closed[1])
            rewards = points_by_place(board.rewards) if is_new else []
            cursor.execute(
                RESULTS_SQL,
                {
                    "board": board_id,
                    "period": period,
                    "sign": -1 if board.order == Board.Order.LOWER else 1,
                    "rewards": rewards,
                    "limit": max(LEAST_RESULTS, len(rewards)),
                },
            )
            results = cursor.rowcount
            if is_new and board.webhook_url:
                cursor.execute(TELL_SQL, [board_id, period])
        logger.info("Period %d of board %s is closed with %d results", period, board.name, results)
        return True

    def _reward(self) -> bool:
        """Give rewards that are owed, as many as a transaction takes. Returns whether any was settled."""
        with self._log.connection.cursor() as cursor:
            cursor.execute(UNREWARDED_SQL, [MAX_PER_TRANSACTION])
            owed = [Due(*row) for row in cursor.fetchall()]
        if not owed:
            return False
        outcomes = self._writer.batcher.submit_all_and_wait([due.change for due in owed])
        done = [
            (due.board_id, due.period, due.place, *_told(outcome))
            for due, outcome in zip(owed, outcomes, strict=True)
            if isinstance(outcome, Recorded | Refused)
        ]
        if done:
            with self._log.connection.cursor() as cursor:
                cursor.execute(REWARDED_SQL, [list(column) for column in zip(*done, strict=True)])
        return bool(done)


def _told(outcome: Recorded | Exception) -> tuple[int | None, str]:
    return (outcome.seq, "") if isinstance(outcome, Recorded) else (None, getattr(outcome, "code", ""))


def _is_new(board: Board, ends_at: datetime | None) -> bool:
    """Whether the period ended when the board was there. One from before has results, and nobody is rewarded or told."""
    ended_at = min((at for at in (ends_at, board.archived_at) if at is not None), default=None)
    return ended_at is None or ended_at > board.created_at


def points_by_place(rewards: Mapping[str, int]) -> list[int]:
    """The points of each place from 1 to the last that earns any."""
    points: dict[int, int] = {}
    for key, value in rewards.items():
        first, last = places_of(key)
        points |= dict.fromkeys(range(first, last + 1), value)
    return [points.get(place, 0) for place in range(1, max(points, default=0) + 1)]
