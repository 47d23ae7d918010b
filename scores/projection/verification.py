"""The comparison of the copy in Redis with the tables, user by user. It repairs nothing.

Writes go on during the comparison, so a pass over a million users does not show one moment. Users who differ in it, or
change during it, are only suspects, and suspects are compared again in an exact way: first the copy is read, which is
at some event r, then the tables, which are at some event t that cannot be earlier. Users without an event from r + 1 to
t must have the same total in both; the others are compared once more.

Road not taken: the lock on the log's head would make both reads the same moment, but would stop every writer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from scores.log.head import Head, Log
from scores.stores.redis import BULK

from .leaderboard import Copy, State
from .tail import copy_fault

CHUNK = 1_000  # users per query to either store: about 2 ms of each
MAX_ATTEMPTS = 20  # for suspects who change between the two reads every time, which takes hundreds of changes a second
PAUSE_S = 0.1  # between two attempts
CATCH_UP_TIMEOUT_S = 2.0  # for a copy that is behind: the tail of any server process closes the gap within a second
SURROGATE = re.compile("[\ud800-\udfff]")


class Difference(NamedTuple):
    """A user whose total is not the same in both."""

    user_id: str
    in_table: int | None  # None: not on the board, because the user has no score or is blocked
    in_redis: float | None  # None: no such member


class Comparison(NamedTuple):
    """The result. If the copy is missing or belongs to another log, no user is compared: every one would differ."""

    state: State | None  # of the copy, at the end
    head: Head  # of the log, right after that
    fault: str | None  # why the copy as a whole is wrong: missing, foreign, ahead, damaged or behind
    compared: int  # users: all on the board, and all members of the set that are not on the board
    differences: list[Difference]  # by user id
    unsettled: int  # suspects who changed during every attempt

    @property
    def equal(self) -> bool:
        return not (self.fault or self.differences or self.unsettled)


def compare(copy: Copy, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Comparison:
    """Compare everything. `progress` is called with the users done and in all, over both stores.

    Keeps one transaction open during the pass over the table, and only the suspects in memory. Raises `RedisAway` or
    Django's `DatabaseError`.
    """
    state, head = _state_and_head(copy)
    if state is None or state.origin != head.origin:
        return Comparison(state, head, copy_fault(state, head), 0, [], 0)
    compared, suspects = _find_suspects(copy, state.size, progress)
    differences, unsettled = _settle(copy, suspects)
    state, head, fault = _final_state(copy)
    return Comparison(state, head, fault, compared, sorted(differences), unsettled)


def _find_suspects(copy: Copy, size: int, progress: Callable[[int, int], None]) -> tuple[int, set[str]]:
    """Compare all users in the table and all members of the set; returns how many there are, and the suspects."""
    suspects: set[str] = set()
    on_board = 0
    with copy.log.snapshot() as head:
        rows = copy.log.visible_totals(chunk=CHUNK)
        while chunk := list(islice(rows, CHUNK)):
            scores = copy.totals_of([user_id for user_id, _ in chunk], alias=BULK).scores
            suspects |= {user_id for (user_id, total), score in zip(chunk, scores, strict=True) if total != score}
            on_board += len(chunk)
            progress(on_board, head.members + size)
    only_in_redis: set[str] = set()
    scanned = 0
    for members in copy.members(chunk=CHUNK):
        only_in_redis |= set(members) - _totals(copy.log, members).keys()
        scanned += len(members)
        progress(on_board + min(scanned, size), on_board + size)
    changed = copy.log.events_after(head.seq).values_list("user_id", flat=True).distinct()
    return on_board + len(only_in_redis), suspects | only_in_redis | set(changed)


def _settle(copy: Copy, suspects: set[str]) -> tuple[list[Difference], int]:
    """The differences among `suspects`, and how many of them could not be compared."""
    differences: list[Difference] = []
    for attempt in range(MAX_ATTEMPTS):
        if attempt > 0:
            time.sleep(PAUSE_S)
        waiting = iter(suspects)
        suspects = set()
        while chunk := list(islice(waiting, CHUNK)):
            confirmed, unsettled = _compare_again(copy, chunk)
            differences += confirmed
            suspects |= unsettled
        if not suspects:
            break
    return differences, len(suspects)


def _compare_again(copy: Copy, user_ids: list[str]) -> tuple[list[Difference], set[str]]:
    """The differences among these users, and those who changed between the two reads."""
    in_redis = copy.totals_of(user_ids, alias=BULK)
    with copy.log.snapshot() as head:
        if in_redis.origin != head.origin:  # the copy was lost or replaced since the first pass
            return [], set(user_ids)
        totals = _totals(copy.log, user_ids)
        changed = copy.log.touched_after(in_redis.seq, _storable(user_ids))
    settled = [
        Difference(user_id, totals.get(user_id), score)
        for user_id, score in zip(user_ids, in_redis.scores, strict=True)
        if user_id not in changed
    ]
    return [difference for difference in settled if difference.in_table != difference.in_redis], changed


def _totals(log: Log, user_ids: Iterable[str]) -> dict[str, int]:
    """The totals of those of `user_ids` who are on the board."""
    rows = log.visible().filter(user_id__in=_storable(user_ids))
    return dict(rows.values_list("user_id", "score"))


def _storable(user_ids: Iterable[str]) -> list[str]:
    """Those that PostgreSQL accepts: another program may have written members that are not text into the set."""
    return [
        user_id for user_id in user_ids if "\0" not in user_id and (user_id.isascii() or not SURROGATE.search(user_id))
    ]


def _state_and_head(copy: Copy) -> tuple[State | None, Head]:
    state = copy.state(alias=BULK)  # first: the log only grows, so a correct copy cannot be ahead of a later head
    return state, copy.log.head()


def _final_state(copy: Copy) -> tuple[State | None, Head, str | None]:
    """The state of the copy and the head of the log, at the same event or after the timeout, and the copy's fault."""
    earlier = copy.log.head()
    until = time.monotonic() + CATCH_UP_TIMEOUT_S
    while True:
        state, head = _state_and_head(copy)
        if fault := copy_fault(state, head):
            return state, head, fault
        assert state is not None  # or the fault would be "missing"
        if state.seq == head.seq:
            return state, head, None
        if time.monotonic() > until:
            # Behind events that were committed before the wait began, so their receiver is not just late.
            return state, head, "behind" if state.seq < earlier.seq else None
        time.sleep(PAUSE_S / 10)
