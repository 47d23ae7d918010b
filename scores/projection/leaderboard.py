"""The copy in Redis: a sorted set, and its position in the log.

The ZSET has member = user id, score = total. The hash beside it has `origin` (which log), `seq` (the newest event in
the set) and `members` (the size that the set must have). One script changes all of them at once, so they agree after a
crash, a failover or the load of an old RDB file. If the size of the set is not `members`, another program has changed
the set, and it is not used.

Every script is idempotent and carries absolute totals, so a call whose reply was lost can be repeated.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from typing import Any, NamedTuple, cast

from redis import RedisError

from scores.board import LEADERBOARD, BoardNames
from scores.exceptions import Damaged, Gap, RedisAway
from scores.log.head import Head, Log, log
from scores.stores.redis import BULK, client, guarded, in_cluster, run_script

from . import scripts

CATCH_UP_EVENTS = 5_000  # per step: about 10 ms of Redis
REBUILD_MEMBERS = 1_000  # per ZADD: well under 10 ms of Redis
# Why a copy cannot catch up and must be rebuilt; the rest that can be wrong with it shows in its state.
EVENTS_MISSING = "behind by events that the log no longer has"
MOVED_BY_HAND = "moved by another program"
LAST_S = 4e9  # POSIX seconds; no rebuild ends later
SIDE_KEY_TTL_S = 3_600  # removes the side key of a rebuild that was killed


class State(NamedTuple):
    """How the copy describes itself, and the real size of its set. It is read only if `reach` is `seq`."""

    origin: str
    seq: int
    members: int
    size: int
    mark: int | None  # of event `seq`; None: not known
    reach: int  # the newest event that the set may contain


class Rebuilt(NamedTuple):
    """A finished rebuild: its end (POSIX seconds), its duration, the members, the newest event and the reason."""

    at: float
    took_s: float
    members: int
    seq: int
    why: str


class Entry(NamedTuple):
    """A row of the board. `rank` is competition rank: one plus the number of users with a strictly higher score."""

    rank: int
    user_id: str
    score: int


class PlacedEntry(NamedTuple):
    """An entry with its position, which no two have: equal scores are ordered by user id."""

    rank: int
    user_id: str
    score: int
    position: int


class Totals(NamedTuple):
    """The scores of some members in the copy as of event `seq` of `origin`; `None` if there is no such member.

    Scores are `int`, unless another program has written other numbers.
    """

    origin: str
    seq: int
    scores: list[float | None]


class PageQuestion(NamedTuple):
    limit: int
    offset: int


class StandingQuestion(NamedTuple):
    user_id: str


class PlaceQuestion(NamedTuple):
    """A standing with its position."""

    user_id: str


Question = PageQuestion | StandingQuestion | PlaceQuestion
Answer = list[Entry] | Entry | PlacedEntry | None


class Snapshot(NamedTuple):
    """Answers as of one moment: right after event `seq` of the log `origin`."""

    origin: str
    seq: int
    members: int
    answers: list[Answer]  # to a page: its entries; to a standing or a place: its entry, or None


class _Newest:
    """The newest event that this process has seen, in the copy or elsewhere. An older copy is late, or of an old RDB file."""

    def __init__(self) -> None:
        self._seqs: dict[str, int] = {}  # by origin; only the latest origin is kept
        self._lock = threading.Lock()

    def of(self, origin: str) -> int:
        return self._seqs.get(origin, 0)

    def saw(self, origin: str, seq: int) -> None:
        with self._lock:
            if seq > self._seqs.get(origin, -1):
                self._seqs = {origin: seq}


class Copy:
    """The copy of a board of a log. Methods raise `RedisAway` if Redis does not answer; `alias` selects timeouts."""

    def __init__(self, board: BoardNames, log: Log) -> None:
        self._board = board
        self.log = log
        self._newest = _Newest()

    @property
    def board(self) -> BoardNames:
        """With the keys that it has in this Redis."""
        return self._board.in_cluster if in_cluster() else self._board

    def _run(
        self,
        body: str,
        argv: Iterable[str | int | bytes],
        *,
        side_key: str = "",
        alias: str = "default",
        probe: bool = False,
    ) -> list[Any]:
        args = list(argv)

        def command() -> Any:
            board = self.board
            keys = [board.key, board.state_key, *([side_key] if side_key else [])]
            return run_script(body, keys=keys, args=args, alias=alias)

        return cast("list[Any]", guarded(command, probe=probe))

    def apply(
        self,
        *,
        origin: str,
        first: int,
        last: int,
        totals: dict[str, int | None],
        mark_before: int | None = None,
        mark: int | None = None,
        alias: str = "default",
    ) -> bool:
        """Apply the events from `first` to `last` to the copy; returns `False` if it already contains them.

        `totals` holds, as of `last`, the total of every user whom these events touch; `None` takes a user off the
        board. The marks are those of the event before `first` and of `last`: a copy at one of these events with another
        mark is of another history. Raises `Gap`, `Damaged` or `RedisAway`.
        """
        argv: list[str | int] = [origin, first, last, mark_before or "", mark or ""]
        for user_id, total in totals.items():
            argv += (user_id, "" if total is None else total)
        (outcome,) = self._run(scripts.APPLY, argv, alias=alias)
        if outcome == b"behind":
            raise Gap
        if outcome not in (b"moved", b"done"):
            raise Damaged(outcome.decode())
        self._newest.saw(origin, last)
        return bool(outcome == b"moved")

    def must_reach(self, origin: str, seq: int) -> None:
        """From now on, `read` raises `Damaged` until the copy has this event: it has been shown, or it is not new."""
        self._newest.saw(origin, seq)

    def catch_up(
        self, head: Head, *, alias: str = "default", between_steps: Callable[[], object] = lambda: None
    ) -> bool:
        """Apply the events that the copy lacks, at least up to `head`; returns `False` if it lacks none.

        What takes more than one step takes long: until it ends, the copy is not read. Raises `Damaged` or `RedisAway`.
        """
        moved = False
        while (current := self.state(alias=alias)) is not None and current.seq < head.seq:
            changes = self.log.totals_from(current.seq, limit=CATCH_UP_EVENTS)
            before = changes.pop(0).mark if changes and changes[0].seq == current.seq else None
            if not changes or changes[0].seq != current.seq + 1:
                raise Damaged(EVENTS_MISSING)
            if changes[-1].seq < current.reach:  # this step would set newer totals back
                raise Damaged(MOVED_BY_HAND)
            totals = {change.user_id: change.total for change in changes if change.counts}
            try:
                moved |= self.apply(
                    origin=head.origin,
                    first=current.seq + 1,
                    last=changes[-1].seq,
                    totals=totals,
                    mark_before=before,
                    mark=changes[-1].mark,
                    alias=alias,
                )
            except Gap:  # another process has moved the copy since `state`, or swapped one in: read it again
                continue
            if changes[-1].seq < head.seq:
                self.must_reach(head.origin, head.seq)
                between_steps()
        if current is None:
            raise Damaged("missing")
        return moved

    def read(self, origin: str, questions: Sequence[Question]) -> Snapshot:
        """Answer all `questions` in one round trip, as of one moment. Raises `Damaged` or `RedisAway`.

        `Damaged` is also raised for a copy that went back: this process never answers with an older state than before.
        """
        argv: list[str | int] = [origin, self._newest.of(origin)]
        for question in questions:
            if isinstance(question, PageQuestion):
                argv += ("page", question.offset, question.offset + question.limit - 1)
            else:
                kind = "standing" if isinstance(question, StandingQuestion) else "place"
                argv += (kind, question.user_id, "")
        outcome, *rest = self._run(scripts.READ, argv)
        if outcome != b"whole":
            raise Damaged(outcome.decode())
        seq, members, answers = rest
        try:
            decoded = [_decode(q, a) for q, a in zip(questions, answers, strict=True)]
        except ValueError as error:  # a fraction, or a member that is not UTF-8: another program wrote to the set
            raise Damaged("damaged") from error
        self._newest.saw(origin, int(seq))
        return Snapshot(origin=origin, seq=int(seq), members=int(members), answers=decoded)

    def state(self, *, alias: str = "default") -> State | None:
        """How the copy describes itself; `None` if its state is missing or cannot be read. Raises `RedisAway`.

        Asks Redis even while the breaker is open. The tail does so several times a second, so the breaker's own probes
        are never due: as long as there is a tail, no request has to wait for a probe.
        """
        state = self._run(scripts.STATE, [""], alias=alias, probe=True)
        if not state:
            return None
        origin, seq, members, size, mark, reach = state
        return State(origin.decode(errors="replace"), seq, int(members), size, int(mark) if mark else None, reach)

    def rebuild(
        self, *, why: str = "", force: bool = False, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Head:
        """Fill the copy from the totals, while writes go on; returns the head that it has caught up with.

        A snapshot at event S is streamed into a side key, swapped in together with its state in one step, then caught
        up. Readers see the old copy until the swap, and never a partial one. Without `force`, an intact copy at S or
        later stays. `progress` is called with the members done and in all whenever the database has answered. Raises
        `RedisAway` or `Damaged`.
        """
        started = time.monotonic()
        side_key = self.board.side_key(secrets.token_hex(8))
        self.log.head()  # starts the log if there is none, which the read-only transaction cannot do
        try:
            self._fill_and_swap(side_key, force, progress)
        except BaseException:
            self._remove(side_key)
            raise
        head = self.log.head()
        self.catch_up(head, alias=BULK, between_steps=lambda: progress(head.members, head.members))
        self._remember(Rebuilt(time.time(), time.monotonic() - started, head.members, head.seq, why))
        return head

    def _fill_and_swap(self, side_key: str, force: bool, progress: Callable[[int, int], None]) -> None:
        done = 0
        # Closed here: after an error, the garbage collector would close the cursor, perhaps amid a later statement of
        # this thread, which then waits for the connection that it uses itself.
        with self.log.snapshot() as head, closing(self.log.visible_totals(chunk=REBUILD_MEMBERS)) as rows:
            while chunk := list(islice(rows, REBUILD_MEMBERS)):
                self._fill(side_key, dict(chunk))
                done += len(chunk)
                progress(done, head.members)
        if done != head.members:
            self.log.mend_head()
            raise Damaged("not as large as the head of its log says")
        swap: list[str | int] = [head.origin, head.seq, done, int(force), head.mark or ""]
        (outcome,) = self._run(scripts.SWAP, swap, side_key=side_key, alias=BULK)
        if outcome not in (b"moved", b"done"):
            raise Damaged(outcome.decode())

    def _fill(self, side_key: str, totals: dict[str, int]) -> None:
        # In one transaction: between two commands this process may die, and the key would stay for ever. Each time, since
        # somebody may have deleted the key meanwhile, and with it its end.
        pipeline = client(BULK).pipeline(transaction=True)
        pipeline.zadd(side_key, totals)
        pipeline.expire(side_key, SIDE_KEY_TTL_S)

        def execute() -> None:
            try:
                pipeline.execute()
            except RedisError as error:  # the library quotes the command, and so users and their totals
                error.args = (str(error).rpartition(" of pipeline caused error: ")[2],)
                raise

        guarded(execute)

    def _remove(self, side_key: str) -> None:
        """Take back what a rebuild has filled that failed: perhaps for want of just that memory."""
        with suppress(RedisAway):
            guarded(lambda: client(BULK).unlink(side_key), probe=True)

    def _remember(self, rebuilt: Rebuilt) -> None:
        try:
            guarded(lambda: client(BULK).set(self.board.rebuilt_key, json.dumps(rebuilt)))
        except RedisAway:
            pass  # the rebuild itself succeeded

    def last_rebuild(self) -> Rebuilt | None:
        """The last rebuild of the copy, by any process; `None` if Redis has no record of one. Raises `RedisAway`."""
        (stored,) = guarded(lambda: run_script(scripts.GET, keys=[self.board.rebuilt_key], args=[]))
        return _rebuilt(stored) if stored else None

    def totals_of(self, user_ids: Sequence[str], *, alias: str = "default") -> Totals:
        """The scores of these members (at most 1,000), even if the copy is damaged. Raises `RedisAway`."""
        members = [user_id.encode(errors="surrogateescape") for user_id in user_ids]
        origin, seq, scores = self._run(scripts.TOTALS, members, alias=alias)
        return Totals(
            (origin or b"").decode(errors="replace"),
            seq,
            [None if score is None else _parse_score(score) for score in scores],
        )

    def mend(self, *, origin: str, seq: int, totals: dict[str, int | None]) -> int:
        """Set these members of a copy that is at event `seq` to their totals; returns how many were wrong.

        Raises `Gap` if the copy is at another event, `Damaged` or `RedisAway`.
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
        """All members, about `chunk` at a time, each at least once (the guarantee of SCAN). Raises `RedisAway`.

        Bytes that are not UTF-8, which only another program can have written, become surrogates; `totals_of` accepts
        those.
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


def _rebuilt(stored: bytes) -> Rebuilt | None:
    """`None` for what another program wrote there."""
    try:
        rebuilt = Rebuilt(*json.loads(stored))
        is_ours = 0 < rebuilt.at < LAST_S and rebuilt.took_s >= 0 and rebuilt.members >= 0 and rebuilt.seq >= 0
    except (TypeError, ValueError):
        return None
    return rebuilt if is_ours and isinstance(rebuilt.why, str) else None


def _decode(question: Question, answer: list[Any]) -> Answer:
    if isinstance(question, PlaceQuestion):
        return PlacedEntry(answer[0], question.user_id, int(answer[1]), answer[2] + 1) if answer else None
    if isinstance(question, StandingQuestion):
        return Entry(answer[0], question.user_id, int(answer[1])) if answer else None
    rank, rows = answer
    members = zip(rows[::2], rows[1::2], strict=True)
    return ranked(((member.decode(), int(score)) for member, score in members), rank=rank, offset=question.offset)


def ranked(rows: Iterable[tuple[str, int]], *, rank: int, offset: int) -> list[Entry]:
    """Entries of consecutive rows of the board, given the rank of the first; equal scores share a rank."""
    entries: list[Entry] = []
    for position, (user_id, score) in enumerate(rows, start=offset + 1):
        if entries and score != entries[-1].score:
            rank = position
        entries.append(Entry(rank, user_id, score))
    return entries


def _parse_score(score: bytes) -> float:
    number = float(score)
    return int(number) if number.is_integer() else number


leaderboard = Copy(LEADERBOARD, log)
