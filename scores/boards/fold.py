"""The fold: what a slice of the log does to boards that are all at the event before it. Knows no store.

It makes *moves*: for each source that boards count, each period and each way to fold, what the users' events come to.
Boards that count alike share their moves. Who has a void, a block, an unblock or a reward in the slice is left out and derived
anew from the whole log (see `history`): these are rare, and only the log knows what is best next.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from scores.models import MAX_TOTAL, Board, ScoreEvent
from scores.user_id import REWARDER_PREFIX, is_service

Kind = ScoreEvent.Kind
MODERATED = frozenset((Kind.VOID.value, Kind.BLOCK.value, Kind.UNBLOCK.value))


class LogEvent(NamedTuple):
    """An event of a known kind, as far as boards look at it."""

    seq: int
    user_id: str
    kind: str
    points: int
    action: str | None
    stream: str | None
    is_reward: bool = False  # of some board, which does not count it itself


class Stretch(NamedTuple):
    """A period that has begun: which events it has. `last_seq` is None while it has not ended."""

    number: int
    first_seq: int
    last_seq: int | None


class Source(NamedTuple):
    """What a board counts: a stream, or the default points (None), of which `action` selects those of one action."""

    stream: str | None
    action: str | None


class Rules(NamedTuple):
    """How a board ranks. `sign` turns a score into the key that orders all boards alike, the largest first."""

    id: int
    source: Source
    fold: str
    sign: int
    is_first: bool  # among equals, who reached the score first is ahead; if not, the larger user id
    rewarder: str  # the actor of the board's own rewards, which it does not count


class Move(NamedTuple):
    """What the events of a user in a part of a slice come to: the key, and the event that reached it."""

    user_id: str
    key: int
    seq: int


class Part(NamedTuple):
    """Moves of one period of each of these boards, which fold alike."""

    fold: str
    moves: list[Move]  # in the order of the user ids
    boards: list[tuple[Rules, int]]  # each with the number of its period


class Slice(NamedTuple):
    """What the events from `before + 1` to `last` do to `boards`. `derived` are the users to derive as of `last`."""

    before: int
    last: int
    boards: Sequence[Rules]
    parts: list[Part]
    derived: list[str]

    def portions(self, rows: int, *, derived: Mapping[int, int] = MappingProxyType({})) -> list[Slice]:
        """The same for some boards after the other: at most `rows` moves each, or one board.

        `derived` are rows of derived users, by board, which count as moves do.
        """
        # By board: numbers of parts, each with that of the board's period.
        places: dict[int, list[tuple[int, int]]] = {}
        for number, part in enumerate(self.parts):
            for board, period in part.boards:
                places.setdefault(board.id, []).append((number, period))
        portions: list[list[Rules]] = [[]]
        room = rows
        for board in self.boards:
            size = derived.get(board.id, 0) + sum(len(self.parts[n].moves) for n, _ in places.get(board.id, ()))
            if portions[-1] and size > room:
                portions.append([])
                room = rows
            portions[-1].append(board)
            room -= size
        return [self._of(boards, places) for boards in portions if boards]

    def _of(self, boards: list[Rules], places: Mapping[int, list[tuple[int, int]]]) -> Slice:
        of_parts: dict[int, list[tuple[Rules, int]]] = {}
        for board in boards:
            for number, period in places.get(board.id, ()):
                of_parts.setdefault(number, []).append((board, period))
        parts = [self.parts[number]._replace(boards=of_parts[number]) for number in sorted(of_parts)]
        return self._replace(boards=boards, parts=parts)


class Tally:
    """What the events of one user of one source come to, by every fold."""

    __slots__ = ("high", "high_seq", "latest", "low", "low_seq", "seq", "sum")

    def __init__(self, points: int, seq: int) -> None:
        self.sum = self.high = self.low = self.latest = points
        self.high_seq = self.low_seq = self.seq = seq

    def add(self, points: int, seq: int) -> None:
        self.sum += points
        self.latest = points
        self.seq = seq
        if points > self.high:  # not `>=`: who was first with it stays first
            self.high, self.high_seq = points, seq
        if points < self.low:
            self.low, self.low_seq = points, seq

    def move(self, user_id: str, fold: str, sign: int) -> Move:
        if fold == Board.Fold.SUM:
            return Move(user_id, sign * min(self.sum, MAX_TOTAL), self.seq)
        if fold == Board.Fold.LATEST:
            return Move(user_id, sign * self.latest, self.seq)
        return Move(user_id, self.high, self.high_seq) if sign > 0 else Move(user_id, -self.low, self.low_seq)


def rewarder(board: str) -> str:
    """The actor of the rewards that the board of this name gives."""
    return f"{REWARDER_PREFIX}{board}"


def rules_of(board: Board) -> Rules:
    return Rules(
        id=board.id,
        source=Source(board.stream, board.action),
        fold=board.fold,
        sign=-1 if board.order == Board.Order.LOWER else 1,
        is_first=board.ties == Board.Ties.FIRST,
        rewarder=rewarder(board.name),
    )


def stretch_at(stretches: Sequence[Stretch], seq: int) -> Stretch | None:
    """The period that has event `seq`; `None` between seasons. Of empty periods that begin with it, none."""
    place = bisect_right(stretches, seq, key=lambda stretch: stretch.first_seq) - 1
    if place < 0:
        return None
    found = stretches[place]
    return found if found.last_seq is None or seq <= found.last_seq else None


def end_of_slice(events: Iterable[LogEvent], last: int, *, derived: int) -> int:
    """The last event, `last` at most, up to which at most so many users are derived anew: each has rows in all periods."""
    users: set[str] = set()
    for event in events:
        if _is_derived(event):
            users.add(event.user_id)
            if len(users) > derived:
                return event.seq - 1
    return last


def _is_derived(event: LogEvent) -> bool:
    return event.kind in MODERATED or event.is_reward


def fold(
    boards: Sequence[Rules],
    stretches: Mapping[int, Sequence[Stretch]],
    events: Sequence[LogEvent],
    *,
    before: int,
    last: int,
) -> Slice:
    """The slice of `boards`, which are all at event `before`, by the events up to `last`, in order.

    `stretches` has, by board and in order, at least those periods that have an event of the slice.
    """
    derived = {event.user_id for event in events if _is_derived(event)}
    parts: list[Part] = []
    cuts = _cuts(boards, stretches, before, last)
    start = 0
    for first, end in zip(cuts, [*cuts[1:], last + 1], strict=True):
        stop = bisect_right(events, end - 1, lo=start, key=lambda event: event.seq)
        tallies = _tallies({board.source for board in boards}, events[start:stop], derived)
        parts += _parts(boards, stretches, first, tallies)
        start = stop
    return Slice(before, last, boards, parts, sorted(user for user in derived if not is_service(user)))


def _cuts(boards: Sequence[Rules], stretches: Mapping[int, Sequence[Stretch]], before: int, last: int) -> list[int]:
    """The events with which a part of the slice begins: in each part, every board is in one period, or in none."""
    cuts = {before + 1}
    for board in boards:
        for stretch in stretches.get(board.id, ()):
            cuts.add(stretch.first_seq)
            if stretch.last_seq is not None:
                cuts.add(stretch.last_seq + 1)
    return sorted(cut for cut in cuts if before < cut <= last)


def _tallies(
    sources: Iterable[Source], events: Iterable[LogEvent], derived: set[str]
) -> dict[Source, dict[str, Tally]]:
    tallies: dict[Source, dict[str, Tally]] = {source: {} for source in sources}
    all_points = tallies.get(Source(None, None))
    for event in events:
        if event.user_id in derived:
            continue
        if event.kind == Kind.INCREMENT:
            if all_points is not None:
                _add(all_points, event)
            of_source = tallies.get(Source(None, event.action)) if event.action is not None else None
        elif event.kind == Kind.SCORE:
            of_source = tallies.get(Source(event.stream, None))
        else:
            continue
        if of_source is not None:
            _add(of_source, event)
    return tallies


def _add(tallies: dict[str, Tally], event: LogEvent) -> None:
    tally = tallies.get(event.user_id)
    if tally is None:
        tallies[event.user_id] = Tally(event.points, event.seq)
    else:
        tally.add(event.points, event.seq)


def _parts(
    boards: Sequence[Rules],
    stretches: Mapping[int, Sequence[Stretch]],
    first: int,
    tallies: Mapping[Source, Mapping[str, Tally]],
) -> list[Part]:
    alike: dict[tuple[Source, str, int], list[tuple[Rules, int]]] = {}
    for board in boards:
        stretch = stretch_at(stretches.get(board.id, ()), first)
        if stretch is not None and tallies[board.source]:
            alike.setdefault((board.source, board.fold, board.sign), []).append((board, stretch.number))
    return [
        Part(fold, sorted(tally.move(user, fold, sign) for user, tally in tallies[source].items()), of_boards)
        for (source, fold, sign), of_boards in alike.items()
    ]
