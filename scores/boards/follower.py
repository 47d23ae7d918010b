"""Moves boards after the log: their copies twenty times a second, their standings every two seconds, and what comes and
goes with them.

The tasks run in threads of their own, each with its connection: a projection of thousands of events must not hold up the
copies, which are read meanwhile, and a board that is built from years of events must not hold up the others. What they do
is guarded by positions that move by compare-and-set, so two processes at once do no harm, only work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from django.db.backends.utils import CursorWrapper

from scores import metrics
from scores.log.head import Head, Log
from scores.models import Board

from . import definitions, standings
from .copies import BoardCopies, BoardState, Building, Derived
from .fold import Rules, Slice, Stretch, end_of_slice, fold, rules_of
from .gauges import Gauges
from .history import derive

logger = logging.getLogger(__name__)

EVENTS_PER_FOLD = 400  # of a slice for Redis: as many users at most, so no script takes long
DERIVED_PER_FOLD = 130  # users, each with a row in three periods: as many rows again
EVENTS_PER_PROJECTION = 5_000
# Of the standings, in a transaction, or one board: it locks the positions of its boards, and who deletes a board waits for it.
ROWS_PER_PROJECTION = 2_000
# A projection at full speed takes a CPU for a tenth of a second or more, and the increments of that time four times as long.
# So it rests between its statements, and all in all for a second at most: boards with many rows must not fall behind.
REST_S, RESTS_S = 0.005, 1.0
# Further behind than this, a copy is made from the standings, which are some seconds behind at most.
FAR_BEHIND = 50_000
KEPT_FOR_S = 3_600  # a copy that nobody reads
PERIODS_IN_REDIS = 2  # ended ones, besides the present one
FORGOTTEN_AT_ONCE = 5_000  # rows of periods that are no longer kept
TELL_EVERY_S = 5.0
UNBOUNDED = 2**63 - 1

NOW_SQL = "SELECT epoch::text, seq, calendar FROM leaderboards WHERE name = %s"
CALENDAR_SQL = "SELECT calendar FROM leaderboards WHERE name = %s"
# The periods that events after `after` can be in, and for each board the number of its newest that has begun.
STRETCHES_SQL = """
    SELECT board_id, number, first_seq, last_seq FROM periods
    WHERE first_seq IS NOT NULL AND (last_seq IS NULL OR last_seq > %s) ORDER BY board_id, number
"""
NEWEST_SQL = "SELECT board_id, max(number) FROM periods WHERE first_seq IS NOT NULL GROUP BY board_id"
# Ended periods of boards that keep fewer; never one that is not in the standings yet, that has not closed, or that has
# something left to give or to tell. Seasons stay: their rows are the definition of the board, by which later ones have
# their numbers.
SURPLUS_SQL = """
    SELECT p.board_id, p.number FROM boards b JOIN periods p ON p.board_id = b.id
    WHERE b.keep IS NOT NULL AND b.period <> 'season' AND p.last_seq IS NOT NULL
      AND p.number < (SELECT max(number) FROM periods n WHERE n.board_id = b.id AND n.first_seq IS NOT NULL) - b.keep
      AND p.last_seq <= (SELECT seq FROM board_positions s WHERE s.board_id = b.id AND s.log = %s)
      AND p.closed_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM results r WHERE r.board_id = p.board_id AND r.period = p.number
                      AND r.reward > 0 AND r.reward_seq IS NULL AND r.refusal = '')
      AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.board_id = p.board_id AND d.period = p.number
                      AND d.next_at IS NOT NULL)
    ORDER BY p.board_id, p.number LIMIT 100
"""
# What stood in periods that are gone: older than all that there are. Any order of steps leaves nothing behind, and a process
# that dies between two as well.
FORGET_SQL = """
    DELETE FROM standings WHERE ctid = ANY(ARRAY(
        SELECT s.ctid FROM boards b CROSS JOIN LATERAL (
            SELECT ctid FROM standings
            WHERE board_id = b.id AND period < (SELECT min(number) FROM periods WHERE board_id = b.id) LIMIT %(limit)s
        ) AS s WHERE b.keep IS NOT NULL LIMIT %(limit)s
    ))
"""


class Calendar(NamedTuple):
    """The boards, and those of their periods that events after `after` can be in, as of a number of changes."""

    number: int
    after: int
    boards: dict[int, Rules]
    stretches: dict[int, list[Stretch]]
    newest: dict[int, int]  # by board: its newest period that has begun
    lacking: frozenset[int]  # boards without rows for the present: they must get some before they are folded
    names: dict[int, str]
    made_at: dict[int, float]  # by board: when it was made, in POSIX seconds


class Now(NamedTuple):
    """Where the log is, at a glance."""

    epoch: str
    seq: int
    calendar: int


class View(NamedTuple):
    """What a step sees: the end of the log, the boards, and the position of each in the standings, as of one moment."""

    head: Head
    calendar: Calendar
    positions: dict[int, int]


class Looker:
    """Reads the log and the boards for one thread; boards only if they have changed."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._calendar: Calendar | None = None
        self._origin = ""  # of the log that had it: one that was put back may have the same number again

    def view(self, cursor: CursorWrapper, head: Head, *, after: int = UNBOUNDED) -> View:
        """Within the snapshot of `head`. `after` is the oldest position that somebody is going to fold from."""
        positions = standings.positions(cursor, self.log.name)
        cursor.execute(CALENDAR_SQL, [self.log.name])
        (number,) = cursor.fetchone()
        after = min([after, head.seq, *positions.values()])
        known = self._calendar
        if known is None or self._origin != head.origin or known.number != number or after < known.after:
            known = self._calendar = self._read(cursor, number, after)
            self._origin = head.origin
        return View(head, known, positions)

    def _read(self, cursor: CursorWrapper, number: int, after: int) -> Calendar:
        rows = {board.id: board for board in Board.objects.using(self.log.alias)}
        cursor.execute(STRETCHES_SQL, [after])
        stretches: dict[int, list[Stretch]] = {board: [] for board in rows}
        for board, *columns in cursor.fetchall():
            stretches.setdefault(board, []).append(Stretch(*columns))
        cursor.execute(NEWEST_SQL)
        newest = dict(cursor.fetchall())
        lacking = {
            board.id
            for board in rows.values()
            if board.archived_at is None
            and board.period not in (Board.PeriodKind.FOREVER, Board.PeriodKind.SEASON)
            and not any(stretch.last_seq is None for stretch in stretches[board.id])
        }
        made_at = {board.id: board.created_at.timestamp() for board in rows.values()}
        rules = {board.id: rules_of(board) for board in rows.values()}
        names = {board.id: board.name for board in rows.values()}
        return Calendar(number, after, rules, stretches, newest, frozenset(lacking), names, made_at)


class BoardFollower:
    """All boards of a log. Each task returns whether there is more to do at once."""

    def __init__(self, log: Log, copies: BoardCopies) -> None:
        self._log = log
        self._copies = copies
        self._for_copies, self._for_standings, self._for_tending = Looker(log), Looker(log), Looker(log)
        self._swept_at: int | None = None  # the calendar at which no deleted board had standings left
        self._moved_to: Now | None = None  # where all copies are
        self._gauges = Gauges()
        self._building: Building | None = None
        self._told_at = 0.0  # when the log was last told of it, monotonic
        self._without_boards: tuple[str, int] | None = None  # the epoch and the calendar at which there were none

    # Copies

    def fold(self) -> bool:
        """Move the copies by at most a slice for each position that they are at. Raises `CopyUnusable`."""
        now = self._look()
        if now is None or now == self._moved_to:
            return False
        with self._log.snapshot() as head, self._log.connection.cursor() as cursor:
            state = self._copies.state(head.origin)
            after = min((copied.seq for copied in state.boards.values()), default=head.seq)
            view = self._for_copies.view(cursor, head, after=after)
            groups = _groups({board: copied.seq for board, copied in state.boards.items()}, view.calendar, head.seq)
            work = [self._slice(cursor, view, seq, boards, state) for seq, boards in groups.items() if seq < head.seq]
        if state.fault:
            return False  # the tending begins anew
        more = False
        for slice_, derived in work:
            applied = self._copies.apply(head.origin, slice_, derived)
            metrics.board_folds.labels("redis").inc(len(slice_.boards))
            self._copies.drop_damaged(head.origin, applied.damaged)
            more = more or slice_.last < head.seq
        self._note_boards(now, view)
        if not more:
            self._moved_to = now
        return more

    def _look(self) -> Now | None:
        """Where the log is: a glance, many times a second. `None` if there is no log yet, or no board that follows it."""
        with self._log.connection.cursor() as cursor:
            cursor.execute(NOW_SQL, [self._log.name])
            row = cursor.fetchone()
        now = None if row is None else Now(*row)
        return None if now is None or (now.epoch, now.calendar) == self._without_boards else now

    def _note_boards(self, now: Now, view: View) -> None:
        """Without boards, nobody need look closer until there are some."""
        self._without_boards = None if view.calendar.boards else (now.epoch, now.calendar)

    def _slice(
        self, cursor: CursorWrapper, view: View, before: int, boards: Sequence[Rules], state: BoardState
    ) -> tuple[Slice, list[Derived]]:
        last = min(view.head.seq, before + EVENTS_PER_FOLD)
        events = standings.events_between(cursor, before, last)
        last = end_of_slice(events, last, derived=DERIVED_PER_FOLD)
        events = [event for event in events if event.seq <= last]
        slice_ = fold(boards, view.calendar.stretches, events, before=before, last=last)
        return slice_, list(_derived(cursor, slice_, state)) if slice_.derived else []

    # Standings

    def project(self) -> bool:
        """Move the standings by at most a slice for each position that they are at."""
        now = self._look()
        if now is None:
            return False
        with self._log.snapshot() as head, self._log.connection.cursor() as cursor:
            view = self._for_standings.view(cursor, head)
            groups = _groups(view.positions, view.calendar, head.seq)
            slices = []
            for before, boards in groups.items():
                if before < head.seq:
                    last = min(head.seq, before + EVENTS_PER_PROJECTION)
                    events = standings.events_between(cursor, before, last)
                    slices.append(fold(boards, view.calendar.stretches, events, before=before, last=last))
        self._note_boards(now, view)
        more = False
        for slice_ in slices:
            rest_s = _rest(slice_) if slice_.last == head.seq else 0  # who is behind does not rest
            for portion in slice_.portions(ROWS_PER_PROJECTION):
                is_projected = standings.project(self._log, portion, rest_s=rest_s)
                metrics.board_folds.labels("standings").inc(len(portion.boards) if is_projected else 0)
                more = (is_projected and portion.last < head.seq) or more
        return more

    # History

    def build(self) -> bool:
        """Fill the standings of a board that is new, or is to be made anew, from the log."""
        with self._log.connection.cursor() as cursor:
            ids = standings.unbuilt(cursor, self._log.name)
        board = Board.objects.using(self._log.alias).filter(id__in=ids[:1]).first()
        if board is None:
            return bool(ids)  # deleted between the two looks
        started = self._told_at = time.monotonic()
        try:
            seq = standings.build(self._log, rules_of(board), tell=partial(self._tell, board.id))
        except standings.Raced:
            return True
        finally:
            self._building = None
        logger.info("Board %d is built up to event %d in %.1f s", board.id, seq, time.monotonic() - started)
        return len(ids) > 1

    def _tell(self, board: int, done: int, of: int) -> None:
        """To the log now and then, since one who looks at it waits; to the admin by the tending, which has the time."""
        self._building = Building(board, percent := 100 * done // of)
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            logger.info("Board %d is being built: %d %%", board, percent)
            self._told_at = time.monotonic()

    # What comes and goes

    def tend(self) -> bool:
        """Make coming periods, bring boards to Redis that are read, and let go of what is not. Raises `CopyUnusable`."""
        definitions.extend(self._log)
        more = self._forget_surplus()
        if (building := self._building) is not None:
            self._copies.note_building(building)
        # First: a copy that moves on between the two looks must not seem to be ahead of the log.
        state = self._copies.state(origin := self._log.head().origin)
        with self._log.snapshot() as head, self._log.connection.cursor() as cursor:
            view = self._for_tending.view(cursor, head)
        if head.origin != origin:
            return True
        copied_seqs = {board: copied.seq for board, copied in state.boards.items()}
        self._gauges.tell(view.calendar.names, head.seq, {"standings": view.positions, "redis": copied_seqs})
        # A portion of what deleted boards left: boards that are read come back meanwhile.
        is_sweeping = self._swept_at != view.calendar.number and definitions.sweep(self._log)
        if not is_sweeping:
            self._swept_at = view.calendar.number
        if state.fault:
            logger.info("The state of the boards in Redis is %s: it begins anew", state.fault)
            self._copies.begin(head.origin, state)
            self._moved_to = None
            return True
        self._copies.drop_strays(state)
        wanted = self._wanted(view)
        for board in sorted(state.boards.keys() | state.sizes.keys()):
            if board not in wanted:
                self._copies.leave(head.origin, board, state)
        for board in sorted(wanted & view.positions.keys()):
            copied = state.boards.get(board)
            first = max(1, view.calendar.newest.get(board, 1) - PERIODS_IN_REDIS)
            is_usable = copied is not None and copied.seq <= head.seq and copied.from_period <= first
            if copied is None or not is_usable or view.positions[board] - copied.seq > FAR_BEHIND:
                if self._bring(head.origin, view.calendar.boards[board], first):
                    return True
            elif copied.from_period < first and copied.seq >= view.positions[board]:
                self._copies.leave(head.origin, board, state, from_period=first)
        if any(copied.seq < head.seq for copied in state.boards.values()):
            self._moved_to = None  # brought a moment ago, by a thread or a process of which the folding does not know
        return more or is_sweeping

    def end(self) -> None:
        """Another process follows the log from now on."""
        self._gauges.blank()

    def _wanted(self, view: View) -> set[int]:
        """The boards that somebody has read of late, or that are new."""
        read_at = self._copies.read_at()
        boards = view.calendar.boards.keys()
        self._copies.forget_read(read_at.keys() - boards)
        now = time.time()
        made_at = view.calendar.made_at
        return {board for board in boards if now - max(read_at.get(board, 0), made_at[board]) < KEPT_FOR_S}

    def _bring(self, origin: str, rules: Rules, first: int) -> bool:
        """Whether it is in Redis now by this call."""
        started = time.monotonic()
        try:
            with standings.rows_of(self._log, rules.id, from_period=first) as (seq, rows):
                self._copies.swap_in(origin, rules, seq=seq, from_period=first, rows=rows)
        except standings.Raced:
            return False
        self._moved_to = None
        metrics.board_rebuilds.labels("wanted").inc()
        logger.info("Board %d is in Redis at event %d after %.2f s", rules.id, seq, time.monotonic() - started)
        return True

    def _forget_surplus(self) -> bool:
        """Delete the periods that their boards no longer keep, and then, a portion at a time, what stood in them.

        In this order, since a period that is there must be there whole. Returns whether there may be more.
        """
        with self._log.connection.cursor() as cursor:
            cursor.execute(SURPLUS_SQL, [self._log.name])
            surplus = cursor.fetchall()
        if surplus:
            definitions.forget(self._log, surplus)
        with self._log.connection.cursor() as cursor:
            cursor.execute(FORGET_SQL, {"limit": FORGOTTEN_AT_ONCE})
            return bool(cursor.rowcount == FORGOTTEN_AT_ONCE)


def _rest(slice_: Slice) -> float:
    """For how long the projection of a slice rests after each statement, in seconds."""
    rows = sum(len(part.moves) * len(part.boards) for part in slice_.parts)
    return min(REST_S, RESTS_S * standings.ROWS_PER_STATEMENT / rows) if rows else 0.0


def _groups(positions: Mapping[int, int], calendar: Calendar, seq: int) -> dict[int, list[Rules]]:
    """The boards that can be folded, by the event that they are at."""
    groups: dict[int, list[Rules]] = {}
    for board, rules in calendar.boards.items():
        at = positions.get(board)
        if at is not None and at <= seq and board not in calendar.lacking:
            groups.setdefault(at, []).append(rules)
    return groups


def _derived(cursor: CursorWrapper, slice_: Slice, state: BoardState) -> Iterable[Derived]:
    """The rows of the users to derive, as of the end of the slice, in the periods that are in Redis."""
    for rules in slice_.boards:
        rows: dict[tuple[int, str], tuple[int, int]] = {}
        if derive(cursor, rules, last=slice_.last, users=slice_.derived):
            rows = {
                (period, user): (key, seq) for _, period, user, key, _, seq, hidden in cursor.fetchall() if not hidden
            }
        periods = state.sizes.get(rules.id, {}).keys() | {period for period, _ in rows}
        for period in sorted(periods):
            if period >= state.boards[rules.id].from_period:
                for user in slice_.derived:
                    key, seq = rows.get((period, user), (None, 0))
                    yield Derived(rules, period, user, key, seq)
