"""The copy in Redis: a sorted set, and how far in the log it is.

The ZSET has member = user id, score = total. The hash beside it has `origin` (which log), `seq` (the event that the set is
the state after) and `members` (how many the set must hold). One script changes all of them at once, so they agree after a
crash, a failover or the load of an old RDB file; a set whose size is not `members` was changed by a foreign hand and is not
believed.

Every script is idempotent and carries absolute totals: a call whose answer was lost can be made again.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, cast

from scores.board import LEADERBOARD, Board
from scores.exceptions import Damaged, Gap, RedisAway
from scores.log.head import Head, Log, log
from scores.stores.redis import BULK, client, guarded, script

from . import scripts

CATCH_UP_EVENTS = 5_000  # per step: some 10 ms of Redis
REBUILD_MEMBERS = 1_000  # per ZADD: well under 10 ms of Redis
SIDE_KEY_TTL_S = 3_600  # what a killed rebuild leaves behind goes away by itself


class State(NamedTuple):
    """How the copy describes itself, beside the size it really has."""

    origin: str
    seq: int
    members: int
    size: int


class Rebuilt(NamedTuple):
    """A rebuild of the past: when it ended (POSIX seconds), how long it took, of how many, up to which event, and why."""

    at: float
    took_s: float
    members: int
    seq: int
    why: str


class Entry(NamedTuple):
    """A line of the board. `rank` is competition rank: one plus the number of users with a strictly higher score."""

    rank: int
    user_id: str
    score: int


class Totals(NamedTuple):
    """What the copy says of some members right after event `seq` of `origin`; `None` where there is no such member.

    Scores are `int`, unless a foreign hand put others there.
    """

    origin: str
    seq: int
    scores: list[float | None]


class PageQuestion(NamedTuple):
    limit: int
    offset: int


class StandingQuestion(NamedTuple):
    user_id: str


Question = PageQuestion | StandingQuestion


class Snapshot(NamedTuple):
    """Answers that are all true of one moment: right after event `seq` of the log `origin`."""

    origin: str
    seq: int
    members: int
    answers: list[list[Entry] | Entry | None]  # of a page: its entries; of a standing: its entry, or None


class _Newest:
    """The newest event that this process has seen in the copy. A copy that shows less went back: it is an old RDB file's."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}  # by origin, of which only the last one counts
        self._lock = threading.Lock()

    def in_copy(self, origin: str) -> int:
        return self._of.get(origin, 0)

    def saw(self, origin: str, seq: int) -> None:
        with self._lock:
            if seq > self._of.get(origin, -1):
                self._of = {origin: seq}


class Copy:
    """One board's copy, of one log. Methods raise `RedisAway` when Redis does not answer; `alias` says how patient to be."""

    def __init__(self, board: Board, log: Log) -> None:
        self.board = board
        self.log = log
        self._newest = _Newest()

    def _run(
        self,
        body: str,
        argv: Iterable[str | int | bytes],
        *,
        side_key: str = "",
        alias: str = "default",
        probe: bool = False,
    ) -> list[Any]:
        keys = [self.board.key, self.board.state_key, *([side_key] if side_key else [])]
        ask = partial(script(body), keys=keys, args=list(argv), client=client(alias))
        return cast("list[Any]", guarded(ask, probe=probe))

    def apply(
        self, *, origin: str, first: int, last: int, totals: dict[str, int | None], alias: str = "default"
    ) -> bool:
        """Bring the copy from before event `first` to right after `last`; `False` when it was there already.

        `totals` holds, as of `last`, everyone whom these events touched; `None` takes a user off the board.
        Raises `Gap`, `Damaged` or `RedisAway`.
        """
        argv: list[str | int] = [origin, first, last]
        for user_id, total in totals.items():
            argv += (user_id, "" if total is None else total)
        (outcome,) = self._run(scripts.APPLY, argv, alias=alias)
        if outcome == b"behind":
            raise Gap
        if outcome not in (b"moved", b"done"):
            raise Damaged(outcome.decode())
        self._newest.saw(origin, last)
        return bool(outcome == b"moved")

    def catch_up(self, head: Head, *, alias: str = "default") -> bool:
        """Fold the events that the copy has not seen into it, up to `head` at least; `False` when it had seen them all.

        Raises `Damaged` or `RedisAway`.
        """
        moved = False
        while (current := self.state(alias=alias)) is not None and current.seq < head.seq:
            changes = self.log.totals_after(current.seq, limit=CATCH_UP_EVENTS)
            if not changes:
                raise Damaged("cut off from its log")
            totals = {change.user_id: change.total for change in changes}
            try:
                moved |= self.apply(
                    origin=head.origin, first=current.seq + 1, last=changes[-1].seq, totals=totals, alias=alias
                )
            except Gap:  # the copy was swapped for an older one meanwhile: look again
                continue
        if current is None:
            raise Damaged("missing")
        return moved

    def read(self, origin: str, questions: Sequence[Question]) -> Snapshot:
        """Answer all `questions` in one round trip, as of one moment. Raises `Damaged` or `RedisAway`.

        `Damaged` is also a copy that went back: what this process has once told it does not take back.
        """
        argv: list[str | int] = [origin, self._newest.in_copy(origin)]
        for question in questions:
            if isinstance(question, PageQuestion):
                argv += ("page", question.offset, question.offset + question.limit - 1)
            else:
                argv += ("standing", question.user_id, "")
        outcome, *rest = self._run(scripts.READ, argv)
        if outcome != b"whole":
            raise Damaged(outcome.decode())
        seq, members, answers = rest
        try:
            found = [_decoded(q, a) for q, a in zip(questions, answers, strict=True)]
        except ValueError as error:  # a fraction, or a member that is no UTF-8: somebody else wrote to it
            raise Damaged("damaged") from error
        self._newest.saw(origin, int(seq))
        return Snapshot(origin=origin, seq=int(seq), members=int(members), answers=found)

    def state(self, *, alias: str = "default") -> State | None:
        """How the copy describes itself, or `None` when it does not. Raises `RedisAway`.

        Asks a Redis that is known to be away as well. The tail does so several times a second, which keeps the breaker's own
        probes from being due: as long as there is a tail, no request ever waits to find out.
        """
        origin, seq, members, size = self._run(scripts.STATE, [""], alias=alias, probe=True)
        if origin is None or seq is None or members is None:
            return None
        return State(origin.decode(), int(seq), int(members), size)

    def rebuild(
        self, *, why: str = "", force: bool = False, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Head:
        """Fill the copy anew from the totals, while writes go on, and return the head that it now has caught up with.

        A snapshot at event S is streamed into a side key, swapped in together with its state in one step, then caught up.
        Readers see the old copy until the swap, and never a half one. Without `force` a whole copy that is further than the
        snapshot stays. `progress` is called with members done and in all. Raises `RedisAway` or `Damaged`.
        """
        started = time.monotonic()
        side_key = self.board.side_key(secrets.token_hex(8))
        self.log.head()  # starts the log when there is none, which the read-only transaction could not
        with self.log.snapshot() as head:
            done = 0
            rows = self.log.visible_totals(chunk=REBUILD_MEMBERS)
            while chunk := list(islice(rows, REBUILD_MEMBERS)):
                guarded(lambda chunk=chunk: client(BULK).zadd(side_key, dict(chunk)))  # type: ignore[misc]
                if done == 0:
                    guarded(lambda: client(BULK).expire(side_key, SIDE_KEY_TTL_S))
                done += len(chunk)
                progress(done, head.members)
        (outcome,) = self._run(scripts.SWAP, [head.origin, head.seq, done, int(force)], side_key=side_key, alias=BULK)
        if outcome not in (b"moved", b"done"):
            raise Damaged(outcome.decode())
        head = self.log.head()
        self.catch_up(head, alias=BULK)
        self._remember(Rebuilt(time.time(), time.monotonic() - started, head.members, head.seq, why))
        return head

    def _remember(self, rebuilt: Rebuilt) -> None:
        try:
            guarded(lambda: client(BULK).set(self.board.rebuilt_key, json.dumps(rebuilt)))
        except RedisAway:
            pass  # the copy is what counts

    def last_rebuild(self) -> Rebuilt | None:
        """The last rebuild of this Redis's copy, by whichever process; `None` when it knows of none. Raises `RedisAway`."""
        told = cast("bytes | None", guarded(lambda: client().get(self.board.rebuilt_key)))
        return Rebuilt(*json.loads(told)) if told else None

    def totals_of(self, user_ids: Sequence[str], *, alias: str = "default") -> Totals:
        """What the copy has of these members (a thousand at most), whole or not. Raises `RedisAway`."""
        names = [user_id.encode(errors="surrogateescape") for user_id in user_ids]
        (origin, seq), scores = self._run(scripts.TOTALS, names, alias=alias)
        return Totals(
            (origin or b"").decode(), int(seq or 0), [None if score is None else _number(score) for score in scores]
        )

    def mend(self, *, origin: str, seq: int, totals: dict[str, int | None]) -> int:
        """Set these members of a copy that is right after event `seq` to their totals, and return how many were wrong.

        Raises `Gap` when the copy is at another event, `Damaged` or `RedisAway`.
        """
        argv: list[str | int] = [origin, seq]
        for user_id, total in totals.items():
            argv += (user_id, "" if total is None else total)
        outcome, *rest = self._run(scripts.MEND, argv)
        if outcome == b"behind":
            raise Gap
        if outcome != b"moved":
            raise Damaged(outcome.decode())
        return int(rest[0])

    def members(self, *, chunk: int) -> Iterator[list[str]]:
        """All members, about `chunk` at a time, each at least once (SCAN's promise). Raises `RedisAway`.

        Bytes that are no UTF-8, which only a foreign hand can have put there, become lone surrogates; `totals_of` knows them.
        """
        cursor = 0
        while True:
            position = cursor
            cursor, rows = guarded(
                lambda position=position: cast(
                    "tuple[int, list[tuple[bytes, float]]]", client(BULK).zscan(self.board.key, position, count=chunk)
                )  # type: ignore[misc]
            )
            yield [member.decode(errors="surrogateescape") for member, _ in rows]
            if cursor == 0:
                return


def _decoded(question: Question, answer: list[Any]) -> list[Entry] | Entry | None:
    if isinstance(question, StandingQuestion):
        return Entry(answer[0], question.user_id, int(answer[1])) if answer else None
    rank, rows = answer
    members = zip(rows[::2], rows[1::2], strict=True)
    return ranked(((member.decode(), int(score)) for member, score in members), rank=rank, offset=question.offset)


def ranked(rows: Iterable[tuple[str, int]], *, rank: int, offset: int) -> list[Entry]:
    """Entries of consecutive rows of the board, from the rank of the first: who has the same score shares it."""
    entries: list[Entry] = []
    for position, (user_id, score) in enumerate(rows, start=offset + 1):
        if entries and score != entries[-1].score:
            rank = position
        entries.append(Entry(rank, user_id, score))
    return entries


def _number(score: bytes) -> float:
    number = float(score)
    return int(number) if number.is_integer() else number


leaderboard = Copy(LEADERBOARD, log)
