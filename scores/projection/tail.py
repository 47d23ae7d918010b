"""The tail: compares the copy with the head of the log four times a second, and applies what the copy lacks."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from django.db import Error as DatabaseError

from scores import metrics, signals
from scores.exceptions import CopyUnusable, Damaged
from scores.log.head import Head
from scores.log.periods import roll_over_if_due

from .leaderboard import EVENTS_MISSING, MOVED_BY_HAND, Copy, State, leaderboard
from .scrub import Scrub

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.25
# After a rebuild that failed, and twice as long after each further one: it takes much of both stores, perhaps for nothing.
PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
FAULTS_OF_CATCHING_UP = EVENTS_MISSING, MOVED_BY_HAND


class Tail:
    """One thread per process that compares the head of the log with the state of the copy, and repairs the copy.

    The receiver after a commit is fast, but it can die with its worker, run late or run twice. The tail is reliable.
    """

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._log = copy.log
        self._head: Head | None = None  # as last read; kept while the database is away
        self._read_at = self._answered_at = 0.0
        self._heads: deque[tuple[int, float]] = deque(maxlen=1024)  # seqs of the log, and when each was first seen
        self.scrub = Scrub(copy)
        self._database_away = False
        self._pause_s = PAUSE_S
        self._paused_until = 0.0
        self._awake = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._ended.clear()
            self._head = None  # whoever asks before the first look asks the database
            self._read_at = self._answered_at = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        if self._thread is not None:
            self._ended.set()
            self._awake.set()
            self._thread.join(timeout_s)
            self._thread = None

    def wake(self) -> None:
        """Check now, because a reader found the copy unusable."""
        self._awake.set()

    def origin(self) -> str:
        """The origin of the log: as last read while the tail runs, otherwise from the database."""
        if self._head is not None and self._thread is not None:
            return self._head.origin
        self._log.drop_dead_connection()
        head = self._log.head()
        self._copy.must_reach(head.origin, head.seq)  # nobody has compared the two yet
        return head.origin

    @property
    def age_s(self) -> float:
        """Seconds since the database last returned the head of the log."""
        return time.monotonic() - self._read_at if self._thread is not None else 0.0

    def age_at(self, seq: int) -> float:
        """Seconds for which a state as of event `seq` may lack events: since the log was first seen to be further."""
        if self._thread is None:
            return 0.0
        passed_at = next((read_at for newer, read_at in tuple(self._heads) if newer > seq), None)
        return self.age_s if passed_at is None else max(self.age_s, time.monotonic() - passed_at)

    @property
    def silence_s(self) -> float:
        """Seconds since the database last answered. Less than the age, while a long repair takes all the tail's time."""
        return time.monotonic() - self._answered_at if self._thread is not None else 0.0

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                roll_over_if_due(self._log)
                self.check()
                self._database_answers()
            except CopyUnusable:  # the breaker has logged that Redis is away, and the next check mends what is damaged
                self._database_answers()
            except DatabaseError as error:
                if not self._database_away:  # once per outage, not four times a second
                    logger.warning("The tail cannot read the log: %s", str(error).strip())
                self._database_away = True
                metrics.database_away.set(1)
                self._log.connection.close()
            except Exception:
                logger.exception("The tail failed and will try again")
            self._awake.wait(POLL_INTERVAL_S)
            self._awake.clear()
        self._log.connection.close()

    def _database_answers(self) -> None:
        if self._database_away:
            logger.info("The tail reads the log again")
            metrics.database_away.set(0)
        self._database_away = False

    def check(self) -> None:
        """Compare once, and repair. Raises `CopyUnusable` or Django's `DatabaseError`."""
        previous = self._head
        state, head = self._compare()
        if fault := self._fault(state, head):
            # A process that starts with an empty Redis has lost nothing, so that is no warning.
            self._rebuild(fault, logging.INFO if previous is None and fault == "missing" else logging.WARNING)
            return
        assert state is not None  # or the fault would be "missing"
        # The copy lacks events that were committed before the previous check, so their receiver is not just late.
        is_late = previous is not None and state.seq < previous.seq
        if state.seq < state.reach or (is_late and state.seq < head.seq):
            self._catch_up(head)
        else:
            self._scrub(head)

    def _compare(self) -> tuple[State | None, Head]:
        try:
            # First: the log only grows, so a correct copy cannot be ahead of a head that is read later.
            state = self._copy.state()
        except CopyUnusable:
            self._look_ahead()
            raise
        head = self._read_head()
        metrics.copy_seq.set(0 if state is None else state.seq)
        return state, head

    def _read_head(self) -> Head:
        started = time.monotonic()
        before, self._head = self._head, self._log.head()
        head = self._head
        self._read_at = self._answered_at = time.monotonic()
        if before is None or before.origin != head.origin:
            self._heads.clear()
        if not self._heads or self._heads[-1][0] != head.seq:
            self._heads.append((head.seq, self._read_at))
        metrics.database_seconds.observe(self._read_at - started)
        metrics.log_seq.set(head.seq)
        return head

    def _look_ahead(self) -> None:
        """Look at the end of the log while the copy is away or far behind, and so never read without what came meanwhile."""
        head = self._read_head()
        self._copy.must_reach(head.origin, head.seq)

    def _note_answer(self, *progress: int) -> None:
        self._answered_at = time.monotonic()

    def _scrub(self, head: Head) -> None:
        try:
            if self.scrub.step():
                self._announce(head)
        except CopyUnusable:
            pass  # unusable since the comparison; the next check handles it

    def _catch_up(self, head: Head) -> None:
        try:
            if self._copy.catch_up(head, between_steps=self._look_ahead):
                metrics.catch_ups.inc()
                self._announce(head)
        except Damaged as damaged:
            if damaged.reason in FAULTS_OF_CATCHING_UP:  # the next check finds the others too
                self._rebuild(damaged.reason)

    def _rebuild(self, fault: str, level: int = logging.WARNING) -> None:
        if time.monotonic() < self._paused_until:
            return
        with self._log.try_rebuild_lock() as acquired:
            if not acquired:
                return  # another process rebuilds, and the next check sees the result
            state, head = self._compare()
            if fault not in FAULTS_OF_CATCHING_UP and not self._fault(state, head):
                return  # another process has just rebuilt
            metrics.rebuilds.labels(fault).inc()
            logger.log(level, "The copy in Redis is %s: rebuilding it from the database", fault)
            if fault in ("ahead", "diverged"):
                # The database was put back, and new events must not pass for those that were lost.
                self._log.begin_epoch(head.origin)
                self._head = self._log.head()
            started = time.monotonic()
            head = self._rebuilt(fault)
            logger.info("Rebuilt %d members at event %d in %.2f s", head.members, head.seq, time.monotonic() - started)
        self._announce(head)

    def _rebuilt(self, fault: str) -> Head:
        try:
            head = self._copy.rebuild(why=f"it was {fault}", force=fault == "damaged", progress=self._note_answer)
        except (CopyUnusable, DatabaseError):
            self._paused_until = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            raise
        self._pause_s = PAUSE_S
        return head

    def _fault(self, state: State | None, head: Head) -> str | None:
        """`copy_fault`, and whether the copy's event is the one that the log has at its seq."""
        fault = copy_fault(state, head)
        if fault is None and state is not None and state.mark is not None:
            mark = head.mark if state.seq == head.seq else self._log.mark_of(state.seq)
            if mark and mark != state.mark:
                return "diverged"
        return fault

    def _announce(self, head: Head) -> None:
        signals.leaderboard_changed.send_robust(sender=Tail, origin=head.origin, seq=head.seq)


def copy_fault(state: State | None, head: Head) -> str | None:
    """Why the copy cannot catch up with the log and must be rebuilt; `None` if it can."""
    if state is None:
        return "missing"
    if state.origin != head.origin:
        return "foreign"
    if state.reach > head.seq:
        return "ahead"
    if state.size != state.members or (state.seq == head.seq and state.members != head.members):
        return "damaged"
    return None


tail = Tail(leaderboard)
