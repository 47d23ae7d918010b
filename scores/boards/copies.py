"""The copies of boards in Redis: sets that are read, and a state that says which log and which event they are of.

A board that nobody reads has no copy. Readers mark what they read; the follower brings what was read, and lets go of the
rest. Periods that ended long ago are answered from the standings.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, cast

from scores import metrics
from scores.board import LEADERBOARD, BoardNames
from scores.exceptions import Damaged, RedisAway
from scores.stores.redis import BULK, client, guarded, run_script

from . import scripts
from .fold import Rules, Slice
from .reads import BoardAnswer, BoardEntry, BoardPageQuestion, BoardPlaceQuestion, BoardQuestion, placed
from .standings import Raced, Row

logger = logging.getLogger(__name__)

TOP = 2**53 - 1
TIE_BYTES = 7
# Moves and sets of all boards in one call, or of one board: less than a millisecond of Redis, which every increment waits
# for. With 400, the slowest percent of increments took a seventh longer.
ROWS_PER_SCRIPT = 50
MEMBERS_AT_ONCE = 1_000  # per ZADD of a rebuild
SIDE_KEY_TTL_S = 3_600  # removes the side keys of a rebuild that was killed
MARK_EVERY_S = 60.0
BUILDING_TTL_S = 5


class Copied(NamedTuple):
    """What the state says of one board."""

    seq: int
    from_period: int


class BoardState(NamedTuple):
    """The state of all copies. `fault` is why nothing of it can be used: missing, foreign or damaged."""

    fault: str
    boards: dict[int, Copied]
    sizes: dict[int, dict[int, int]]  # by board and period
    strays: tuple[bytes, ...] = ()  # fields that are none of this service, in which a script might see a period


class Derived(NamedTuple):
    """The row of a user as it is now in a period of a board; without a key they are off it."""

    board: Rules
    period: int
    user_id: str
    key: int | None
    seq: int


class Building(NamedTuple):
    """How far a board is whose standings are being built."""

    board: int
    percent: int


class Applied(NamedTuple):
    """What came of a slice: boards that were behind it, and boards whose copy is damaged, with the periods looked at."""

    behind: set[int]
    damaged: dict[int, set[int]]


class BoardCopies:
    """The copies of all boards of one log. Methods raise `RedisAway`, and `Damaged` if the state cannot be used."""

    def __init__(self, names: BoardNames) -> None:
        self._names = names
        self._marked: dict[int, float] = {}  # by board: when this process last marked it as read, monotonic
        self._lock = threading.Lock()

    def _run(self, body: str, keys: Sequence[str], args: Iterable[Any], *, alias: str = "default") -> list[Any]:
        argv = list(args)
        return cast(
            "list[Any]", guarded(lambda: run_script(body, keys=[self._names.boards_key, *keys], args=argv, alias=alias))
        )

    # State

    def state(self, origin: str) -> BoardState:
        """How the copies describe themselves to the log `origin`."""
        outcome, fields = self._run(scripts.STATE, [], [origin])
        if outcome != b"whole":
            return BoardState("damaged", {}, {})
        return _state(dict(zip(fields[::2], fields[1::2], strict=True)), origin)

    def begin(self, origin: str, before: BoardState) -> None:
        """Begin a state without boards, unless there is one of this log by now."""
        self._run(scripts.BEGIN, self._keys_of(before.sizes), [origin], alias=BULK)

    def drop_strays(self, state: BoardState) -> None:
        """Remove from the state what another hand has put there."""
        if state.strays:
            logger.warning("The state of the boards in Redis has fields that are none: %s", state.strays[:3])
            guarded(lambda: client().hdel(self._names.boards_key, *cast("Any", state.strays)))

    def _keys_of(self, sizes: Mapping[int, Iterable[int]]) -> list[str]:
        return [
            key
            for board, periods in sizes.items()
            for period in periods
            for key in self._names.period_keys(board, period)
        ]

    # Moves

    def apply(self, origin: str, slice_: Slice, derived: Sequence[Derived]) -> Applied:
        """Move the boards of a slice, in as many calls as keep each short. A board moves in one call, or not at all."""
        applied = Applied(set(), {})
        of_boards: dict[int, list[Derived]] = {}
        for row in derived:
            of_boards.setdefault(row.board.id, []).append(row)
        sizes = {board_id: len(rows) for board_id, rows in of_boards.items()}
        for portion in slice_.portions(ROWS_PER_SCRIPT, derived=sizes):
            of_portion = [row for board in portion.boards for row in of_boards.get(board.id, ())]
            outcome, *rest = self._run(scripts.APPLY, *self._moves(origin, portion, of_portion))
            if outcome not in (b"moved", b"done"):
                raise Damaged(outcome.decode())
            behind, damaged = rest
            applied.behind.update(map(int, behind))
            for board_id in map(int, damaged):
                applied.damaged[board_id] = _periods_of(board_id, portion, of_portion)
        return applied

    def _moves(self, origin: str, slice_: Slice, derived: Sequence[Derived]) -> tuple[list[str], list[str | int]]:
        """The keys and arguments of `APPLY`."""
        places: dict[tuple[int, int], int] = {}  # numbers of periods in KEYS
        keys: list[str] = []
        of_places: list[str | int] = []

        def place(board: Rules, period: int) -> int:
            if (board.id, period) not in places:
                places[board.id, period] = len(places) + 1
                keys.extend(self._names.period_keys(board.id, period))
                of_places.extend((board.id, period, int(board.is_first)))
            return places[board.id, period]

        lists: list[str | int] = []
        moves: list[str | int] = []
        for number, part in enumerate(slice_.parts, 1):
            lists.append(len(part.moves))
            for move in part.moves:
                lists += move
            for board, period in part.boards:
                moves += (place(board, period), part.fold, number)
        sets: list[str | int] = []
        for row in derived:
            is_off = row.key is None
            sets += (
                place(row.board, row.period),
                row.user_id,
                "" if is_off else cast("int", row.key),
                "" if is_off else row.seq,
            )
        counts = (len(places), len(slice_.parts), len(moves) // 3, len(sets) // 4)
        return keys, [
            origin,
            slice_.before,
            slice_.last,
            *counts,
            *of_places,
            *lists,
            *moves,
            *sets,
            *(board.id for board in slice_.boards),
        ]

    # Reads

    def read(self, origin: str, questions: Sequence[tuple[BoardQuestion, bool]]) -> list[BoardAnswer | None]:
        """The answers to questions, each with whether its board's ties go to who was first; `None` where the copy has none."""
        keys: list[str] = []
        argv: list[str | int] = [origin]
        for question, is_first in questions:
            keys += self._names.period_keys(question.board, question.period)
            argv += (question.board, question.period, int(is_first))
            if isinstance(question, BoardPageQuestion):
                argv += ("page", question.offset, question.offset + question.limit - 1)
            else:
                argv += ("place", question.user_id, "")
        outcome, *rest = self._run(scripts.READ, keys, argv)
        if outcome != b"whole":
            raise Damaged(outcome.decode())
        damaged: dict[int, set[int]] = {}
        for (question, _), answer in zip(questions, rest[0], strict=True):
            if answer[0] == b"damaged":
                damaged.setdefault(question.board, set()).add(question.period)
        self.drop_damaged(origin, damaged)
        return [
            _answer(question, is_first, answer) for (question, is_first), answer in zip(questions, rest[0], strict=True)
        ]

    def drop_damaged(self, origin: str, damaged: Mapping[int, set[int]]) -> None:
        """Let boards leave whose sets are not as large as they should be: they come back whole from the standings.

        `damaged` has their periods that were looked at: a set that the state does not know goes too, or it would be found
        again and again.
        """
        if not damaged:
            return
        state = self.state(origin)
        for board, periods in sorted(damaged.items()):
            logger.warning("The copy of board %d in Redis is damaged: it is made again", board)
            metrics.board_rebuilds.labels("damaged").inc()
            self.leave(origin, board, state, damaged=periods)

    def rows_of(
        self, origin: str, board: Rules, period: int, users: Sequence[str]
    ) -> tuple[int, list[tuple[float, int] | None]] | None:
        """The event that a period is at, and by it what users have: key, and the event that reached it, 0 by user id.

        `None` if the period is not in Redis.
        """
        keys = list(self._names.period_keys(board.id, period))
        args = [origin, board.id, period, int(board.is_first), *users]
        outcome, *rest = self._run(scripts.ROWS, keys, args, alias=BULK)
        if outcome == b"absent":
            return None
        if outcome != b"whole":
            raise Damaged(outcome.decode())
        seq, rows = rest
        found: list[tuple[float, int] | None] = []
        for key, tie in zip(rows[::2], rows[1::2], strict=True):
            found.append((float(key), TOP - int.from_bytes(tie) if tie else 0) if key else None)
        return int(seq), found

    def members_of(self, board: Rules, period: int) -> Iterator[str]:
        """Whoever is in the set of a period all the while that this takes. An unreadable member has U+FFFD in its name."""
        key, _ = self._names.period_keys(board.id, period)
        cut = TIE_BYTES if board.is_first else 0
        cursor = 0
        while True:
            scan = partial(client(BULK).zscan, key, cursor, count=1_000)
            cursor, rows = cast("tuple[int, list[tuple[bytes, float]]]", guarded(scan))
            yield from (member[cut:].decode(errors="replace") for member, _ in rows)
            if not cursor:
                return

    def mark_read(self, boards: Iterable[int]) -> None:
        """Say that somebody reads these boards; at most once a minute for each. Failing to is no failure of a read."""
        now = time.monotonic()
        with self._lock:
            due = [board for board in set(boards) if now - self._marked.get(board, -MARK_EVERY_S) >= MARK_EVERY_S]
            self._marked |= dict.fromkeys(due, now)
        if due:
            mapping: Any = {str(board): int(time.time()) for board in due}
            with suppress(RedisAway):
                guarded(lambda: client().hset(self._names.boards_read_key, mapping=mapping))

    def read_at(self) -> dict[int, int]:
        """By board: when somebody last read it, in POSIX seconds."""
        marks = guarded(lambda: cast("dict[bytes, bytes]", client().hgetall(self._names.boards_read_key)))
        return {int(board): int(at) for board, at in marks.items() if board.isdigit() and at.isdigit()}

    def forget_read(self, boards: Iterable[int]) -> None:
        """Forget the marks of boards that are gone."""
        fields = [str(board) for board in boards]
        if fields:
            guarded(lambda: client().hdel(self._names.boards_read_key, *fields))

    # What people see of a board that is being built

    def note_building(self, building: Building) -> None:
        """Say how far it is. Who builds says so four times a second; what a killed process said is soon forgotten."""
        guarded(lambda: client().set(self._names.building_key, " ".join(map(str, building)), ex=BUILDING_TTL_S))

    def building(self) -> Building | None:
        """The board that is being built, if any."""
        told = guarded(lambda: cast("bytes | None", client().get(self._names.building_key))) or b""
        parts = [int(part) for part in told.split() if part.isdigit()]
        return Building(*parts) if len(parts) == 2 else None

    # Coming and going

    def swap_in(self, origin: str, board: Rules, *, seq: int, from_period: int, rows: Iterable[Row]) -> None:
        """Put the rows of a board, in the order of their periods, in the place of what there is of it.

        Raises `Raced` if another process has done so meanwhile.
        """
        token = secrets.token_hex(8)
        sizes: dict[int, int] = {}
        try:
            for period, of_period in groupby(rows, key=lambda row: row.period):
                sizes[period] = self._fill(board, period, token, of_period)
            self._swap(origin, board, seq, from_period, token, sizes)
        except BaseException:
            side_keys = [key for period in sizes for key in self._names.period_keys(board.id, period, token)]
            with suppress(RedisAway):
                if side_keys:
                    guarded(lambda: client(BULK).unlink(*side_keys), probe=True)
            raise

    def _fill(self, board: Rules, period: int, token: str, rows: Iterable[Row]) -> int:
        side_set, side_hash = self._names.period_keys(board.id, period, token)
        size = 0
        for chunk in _chunks(rows, MEMBERS_AT_ONCE):
            members: dict[bytes, int] = {}
            ties: dict[str, bytes] = {}
            for row in chunk:
                tie = (TOP - row.reached_seq).to_bytes(TIE_BYTES, "big") if board.is_first else b""
                members[tie + row.user_id.encode()] = row.key
                ties[row.user_id] = tie
            # In one transaction: between two commands this process may die, and the key would stay for ever.
            pipeline = client(BULK).pipeline(transaction=True)
            pipeline.zadd(side_set, cast("Any", members))
            pipeline.expire(side_set, SIDE_KEY_TTL_S)
            if board.is_first:
                pipeline.hset(side_hash, mapping=cast("Any", ties))
                pipeline.expire(side_hash, SIDE_KEY_TTL_S)
            guarded(pipeline.execute)
            size += len(chunk)
        return size

    def _swap(
        self, origin: str, board: Rules, seq: int, from_period: int, token: str, sizes: Mapping[int, int]
    ) -> None:
        before = self.state(origin).sizes.get(board.id, {})
        gone = sorted(before.keys() - sizes.keys())
        keys = [
            key for period in sizes for side in ("", token) for key in self._names.period_keys(board.id, period, side)
        ]
        keys += self._keys_of({board.id: gone})
        argv: list[str | int] = [origin, board.id, seq, from_period, len(sizes)]
        for period, size in sizes.items():
            argv += (period, size, int(board.is_first))
        argv += (f"size:{board.id}:{period}" for period in gone)
        (outcome,) = self._run(scripts.SWAP, keys, argv, alias=BULK)
        if outcome == b"raced":
            raise Raced
        if outcome != b"moved":
            raise Damaged(outcome.decode())

    def leave(
        self,
        origin: str,
        board: int,
        state: BoardState,
        *,
        from_period: int | None = None,
        damaged: Iterable[int] = (),
    ) -> None:
        """Let the periods of a board before `from_period` leave Redis, or without one all of it."""
        known = state.sizes.get(board, {}).keys() | set(damaged)
        gone = sorted(n for n in known if from_period is None or n < from_period)
        argv = [origin, board, "" if from_period is None else from_period, *(f"size:{board}:{n}" for n in gone)]
        (outcome,) = self._run(scripts.LEAVE, self._keys_of({board: gone}), argv, alias=BULK)
        if outcome != b"moved":
            raise Damaged(outcome.decode())


def _state(fields: Mapping[bytes, bytes], origin: str) -> BoardState:
    boards: dict[int, Copied] = {}
    sizes: dict[int, dict[int, int]] = {}
    strays: list[bytes] = []
    for name, value in fields.items():
        kind, *ids = name.decode(errors="replace").split(":")
        if kind not in ("seq", "from", "size"):
            continue
        if not (value.isdigit() and all(part.isdigit() for part in ids)):
            strays.append(name)
        elif kind == "size" and len(ids) == 2:
            sizes.setdefault(int(ids[0]), {})[int(ids[1])] = int(value)
        elif kind == "seq" and len(ids) == 1 and (first := fields.get(f"from:{ids[0]}".encode(), b"")).isdigit():
            boards[int(ids[0])] = Copied(int(value), int(first))
    fault = "damaged" if b"writing" in fields else ""
    if b"origin" not in fields:
        fault = "missing"
    elif fields[b"origin"] != origin.encode():
        fault = "foreign"
    return BoardState(fault, {} if fault else boards, sizes, tuple(strays))


def _periods_of(board_id: int, slice_: Slice, derived: Iterable[Derived]) -> set[int]:
    """The periods of a board that a slice writes to."""
    moved = {period for part in slice_.parts for board, period in part.boards if board.id == board_id}
    return moved | {row.period for row in derived if row.board.id == board_id}


def _chunks(rows: Iterable[Row], size: int) -> Iterable[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _answer(question: BoardQuestion, is_first: bool, answer: list[Any]) -> BoardAnswer | None:
    if answer[0] != b"whole":
        return None
    _, seq, size, rank, rows = answer
    cut = TIE_BYTES if is_first else 0
    try:
        if isinstance(question, BoardPlaceQuestion):
            entries = [BoardEntry(rank, rows[1] + 1, question.user_id, int(rows[0]))] if rows else []
        else:
            pairs = zip(rows[::2], rows[1::2], strict=True)
            entries = placed(
                ((member[cut:].decode(), int(key)) for member, key in pairs), rank=rank, offset=question.offset
            )
    except ValueError:  # a fraction, or a member that is not UTF-8: another program wrote to the set
        return None
    return BoardAnswer(int(seq), int(size), entries)


board_copies = BoardCopies(LEADERBOARD)
