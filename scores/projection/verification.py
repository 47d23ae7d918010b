"""The comparison of the copy in Redis with the tables, user by user. It looks, and mends nothing.

Writes go on meanwhile, so a walk over a million users is not of one moment. Whoever differs on it, or changed during it,
is only a suspect, and suspects are looked at again in a way that is exact: first the copy, which says that it is right after
event r, then the tables, right after some event t that cannot be earlier. Whom no event from r + 1 to t touches must have
the same total in both; whoever is touched is looked at once more.

Not taken: the lock on the log's head, which would make the two the same moment at the price of stopping every writer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from scores.log.head import Head, Log
from scores.models import ScoreEvent
from scores.stores.redis import BULK

from .leaderboard import Copy, State
from .tail import fault_of

CHUNK = 1_000  # users per question to either store: some 2 ms of each
LOOKS = 20  # at a suspect who changes between every two reads, which takes hundreds of changes a second
PAUSE_S = 0.1  # between two looks
PATIENCE_S = 2.0  # with a copy that is behind: the tail of any server process closes the gap within a second
SURROGATE = re.compile("[\ud800-\udfff]")


class Difference(NamedTuple):
    """A user whose total is not the same in both."""

    user_id: str
    in_table: int | None  # None: not on the board, for want of a score or for a block
    in_redis: float | None  # None: no such member


class Comparison(NamedTuple):
    """What was found. Of a copy that is missing or of another log nobody is compared: each of them would differ."""

    state: State | None  # of the copy, at the end
    head: Head  # of the log, right after that
    fault: str | None  # why the copy as a whole is not to be believed: missing, foreign, ahead, damaged or behind
    compared: int  # users: everyone on the board, and members beyond them
    differences: list[Difference]  # by user id
    unsettled: int  # suspects who changed during every look at them

    @property
    def equal(self) -> bool:
        return not (self.fault or self.differences or self.unsettled)


def compare(copy: Copy, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Comparison:
    """Compare everything. `progress` is called with users seen and in all, counting those of both stores.

    Holds one transaction open for the walk, and in memory only the suspects. Raises `RedisAway`, or Django's `DatabaseError`.
    """
    state, head = _state_and_head(copy)
    if state is None or state.origin != head.origin:
        return Comparison(state, head, fault_of(state, head), 0, [], 0)
    compared, suspects = _walk(copy, state.size, progress)
    differences, unsettled = _settle(copy, suspects)
    state, head, fault = _last_look(copy)
    return Comparison(state, head, fault, compared, sorted(differences), unsettled)


def _walk(copy: Copy, size: int, progress: Callable[[int, int], None]) -> tuple[int, set[str]]:
    """Pass by everyone in the table and everyone in the set: how many there were, and who is suspect."""
    suspects: set[str] = set()
    on_board = 0
    with copy.log.snapshot() as head:
        rows = copy.log.visible_totals(chunk=CHUNK)
        while chunk := list(islice(rows, CHUNK)):
            scores = copy.totals_of([user_id for user_id, _ in chunk], alias=BULK).scores
            suspects |= {user_id for (user_id, total), score in zip(chunk, scores, strict=True) if total != score}
            on_board += len(chunk)
            progress(on_board, head.members + size)
    beyond: set[str] = set()
    passed = 0
    for members in copy.members(chunk=CHUNK):
        beyond |= set(members) - _totals(copy.log, members).keys()
        passed += len(members)
        progress(on_board + min(passed, size), on_board + size)
    changed = (
        ScoreEvent.objects.using(copy.log.alias).filter(seq__gt=head.seq).values_list("user_id", flat=True).distinct()
    )
    return on_board + len(beyond), suspects | beyond | set(changed.iterator())


def _settle(copy: Copy, suspects: set[str]) -> tuple[list[Difference], int]:
    """The differences among `suspects`, and how many of them could not be told."""
    differences: list[Difference] = []
    for look in range(LOOKS):
        if look > 0:
            time.sleep(PAUSE_S)
        waiting = iter(suspects)
        suspects = set()
        while chunk := list(islice(waiting, CHUNK)):
            found, unsettled = _compare_again(copy, chunk)
            differences += found
            suspects |= unsettled
        if not suspects:
            break
    return differences, len(suspects)


def _compare_again(copy: Copy, user_ids: list[str]) -> tuple[list[Difference], set[str]]:
    """The differences among these users, and those who changed between the two reads."""
    found = copy.totals_of(user_ids, alias=BULK)
    with copy.log.snapshot() as head:
        if found.origin != head.origin:  # lost, or replaced, since the walk
            return [], set(user_ids)
        totals = _totals(copy.log, user_ids)
        changed = copy.log.touched_after(found.seq, _storable(user_ids))
    settled = [
        Difference(user_id, totals.get(user_id), score)
        for user_id, score in zip(user_ids, found.scores, strict=True)
        if user_id not in changed
    ]
    return [difference for difference in settled if difference.in_table != difference.in_redis], changed


def _totals(log: Log, user_ids: Iterable[str]) -> dict[str, int]:
    """The totals of those who are on the board."""
    rows = log.visible().filter(user_id__in=_storable(user_ids))
    return dict(rows.values_list("user_id", "score"))


def _storable(user_ids: Iterable[str]) -> list[str]:
    """Those that PostgreSQL can be asked about; a foreign hand may have put bytes into the set that are no text."""
    return [
        user_id for user_id in user_ids if "\0" not in user_id and (user_id.isascii() or not SURROGATE.search(user_id))
    ]


def _state_and_head(copy: Copy) -> tuple[State | None, Head]:
    state = copy.state(alias=BULK)  # first: the log only grows, so an honest copy cannot be ahead of a later look
    return state, copy.log.head()


def _last_look(copy: Copy) -> tuple[State | None, Head, str | None]:
    """The state of the copy and the head of the log, after the same event if patience allows, and the fault they show."""
    earlier = copy.log.head()
    until = time.monotonic() + PATIENCE_S
    while True:
        state, head = _state_and_head(copy)
        if fault := fault_of(state, head):
            return state, head, fault
        assert state is not None  # or it were missing
        if state.seq == head.seq:
            return state, head, None
        if time.monotonic() > until:
            # Than what was committed before the patience began: not just a hook on its way.
            return state, head, "behind" if state.seq < earlier.seq else None
        time.sleep(PAUSE_S / 10)
