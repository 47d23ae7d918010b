"""Random histories of boards, and an oracle: boards are exactly the fold of the log, in each store at its own position.

Events go through the real writer, boards through `definitions`, and two followers move the copies and the standings, in any
order and between each other's reads and writes. The oracle shares no code with the fold: it lists a period's events, takes
the voided ones out and sorts. Needs Django to be set up, and a database and a Redis that may be emptied.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, wraps
from random import Random
from typing import Any, NamedTuple, cast
from unittest.mock import patch

from django.db import InternalError, OperationalError, connection, connections
from redis import Redis

from scores.board import LEADERBOARD
from scores.boards import copies as copies_module
from scores.boards import definitions, follower, history, scripts, standings
from scores.boards.copies import BoardCopies
from scores.boards.documents import parse
from scores.boards.follower import BoardFollower
from scores.boards.reads import BoardPageQuestion
from scores.exceptions import CopyUnusable, Refused
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.periods import roll_over_if_due
from scores.log.writer import writer
from scores.models import Action, Board, Leaderboard

# The evening before the clocks of Berlin go back, ahead of this host's clock: the log's time is what is set here.
BEGINNING = datetime(2040, 10, 27, 20, 15, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TOP = 2**53 - 1
# Bytes that sort apart from characters, and as many of them as an id may have.
USERS = ["ann", "bob", "Bob", "cid", "a/b", "0", "é", "z" * 255, "\U0001d518" * 255, "\uffee", "\U0001f600"]
SOURCES = ["points", "points", "action", "stream"]
SMALL = {
    follower: {
        "EVENTS_PER_FOLD": 7,
        "EVENTS_PER_PROJECTION": 11,
        "ROWS_PER_PROJECTION": 9,
        "DERIVED_PER_FOLD": 3,
        "FAR_BEHIND": 25,
        "FORGOTTEN_AT_ONCE": 5,
    },
    copies_module: {"ROWS_PER_SCRIPT": 9},
    standings: {"ROWS_PER_STATEMENT": 4},
    history: {"SLICE": 13, "PARTS": 2},
}
EVENTS_SQL = """
    SELECT seq, user_id, kind, points, action, stream, voids, created_at FROM score_events WHERE seq > %s ORDER BY seq
"""
PERIODS_SQL = """
    SELECT board_id, number, first_seq, last_seq, starts_at, ends_at FROM periods ORDER BY board_id, number
"""
ROWS_SQL = """
    SELECT s.board_id, s.period, s.user_id, s.key, s.reached_seq, s.hidden
    FROM standings s JOIN periods p ON p.board_id = s.board_id AND p.number = s.period
    ORDER BY s.board_id, s.period, s.key DESC, s.tie DESC, s.user_id DESC
"""
# The scores of all periods in one statement, by joins: it shares nothing with the oracle either.
SCORES_SQL = """
    SELECT b.id, p.number, e.user_id,
           CASE WHEN b.fold = 'sum' THEN sum(e.points) WHEN b.fold = 'latest' THEN (array_agg(e.points ORDER BY e.seq DESC))[1]
                WHEN b.sort_order = 'lower' THEN min(e.points) ELSE max(e.points) END
           * CASE WHEN b.sort_order = 'lower' THEN -1 ELSE 1 END
    FROM boards b JOIN periods p ON p.board_id = b.id
    JOIN score_events e ON e.seq >= p.first_seq AND (p.last_seq IS NULL OR e.seq <= p.last_seq)
    LEFT JOIN score_events v ON v.voids = e.seq
    WHERE v.seq IS NULL AND CASE WHEN b.stream IS NOT NULL THEN e.kind = 'score' AND e.stream = b.stream
                                 ELSE e.kind = 'increment' AND (b.action IS NULL OR e.action = b.action) END
    GROUP BY b.id, p.number, e.user_id
"""
STRAY_SQL = """
    SELECT s.board_id, s.period FROM standings s LEFT JOIN periods p ON p.board_id = s.board_id AND p.number = s.period
    WHERE p.number IS NULL
"""


class Event(NamedTuple):
    seq: int
    user_id: str
    kind: str
    points: int
    action: str | None
    stream: str | None
    voids: int | None
    created_at: datetime


class PeriodRow(NamedTuple):
    number: int
    first_seq: int | None
    last_seq: int | None
    starts_at: datetime | None
    ends_at: datetime | None


class Place(NamedTuple):
    """A row of a period."""

    user_id: str
    key: int
    reached_seq: int


class Oracle:
    """The events and periods of the log as they are, and what boards have to show."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.boards: dict[int, Board] = {}
        self.periods: dict[int, list[PeriodRow]] = {}
        self.voids: dict[int, int] = {}  # by the event that was taken back
        self.counted: dict[int, list[Event]] = {}

    def read(self) -> None:
        known = len(self.events)
        with connection.cursor() as cursor:
            cursor.execute(EVENTS_SQL, [known])
            self.events += [Event(*row) for row in cursor.fetchall()]
            self.boards = {board.id: board for board in Board.objects.all()}
            cursor.execute(PERIODS_SQL)
            self.periods = {board: [] for board in self.boards}
            for board, *columns in cursor.fetchall():
                self.periods[board].append(PeriodRow(*columns))
        self.voids |= {event.voids: event.seq for event in self.events[known:] if event.voids is not None}
        self.counted = {
            board.id: [event for event in self.events if counts(board, event)] for board in self.boards.values()
        }

    def blocked(self, position: int) -> set[str]:
        blocked: set[str] = set()
        for event in self.events[:position]:
            if event.kind == "block":
                blocked.add(event.user_id)
            elif event.kind == "unblock":
                blocked.discard(event.user_id)
        return blocked

    def places(self, board: Board, period: PeriodRow, position: int) -> list[Place]:
        """All rows of a period as of an event, in their order, with those of who is blocked."""
        if period.first_seq is None:
            return []
        end = position if period.last_seq is None else min(position, period.last_seq)
        counted = self.counted[board.id]
        start, stop = (bisect_left(counted, seq, key=lambda event: event.seq) for seq in (period.first_seq, end + 1))
        of_user: dict[str, list[Event]] = defaultdict(list)
        for event in counted[start:stop]:
            of_user[event.user_id].append(event)
        places = []
        for user, events in of_user.items():
            voids = {e.seq: self.voids[e.seq] for e in events if self.voids.get(e.seq, position + 1) <= position}
            if (place := reached(board, user, events, voids)) is not None:
                places.append(place)
        if board.ties == "id":
            places.sort(key=lambda place: place.user_id.encode(), reverse=True)
        else:
            places.sort(key=lambda place: place.reached_seq)
        return sorted(places, key=lambda place: -place.key)

    def check_periods(self) -> None:
        """Each event is in the period of its time, and periods without gaps tile the log."""
        for board_id, periods in self.periods.items():
            name, at = self.boards[board_id].name, None
            is_season = self.boards[board_id].period == "season"
            begun = [period for period in periods if period.first_seq is not None]
            for before, after in itertools.pairwise(begun):
                assert before.last_seq is not None, (name, before, after)
                assert cast("int", after.first_seq) > before.last_seq, (name, before, after)
                if not is_season:
                    assert after.first_seq == before.last_seq + 1, (name, before, after)
                    assert after.starts_at == before.ends_at, (name, before, after)
            for period in begun:
                first = cast("int", period.first_seq)
                last = len(self.events) if period.last_seq is None else period.last_seq
                # The time of the log never goes back, so the first and the last one tell.
                for event in self.events[first - 1 : last][:: max(1, last - first)]:
                    at = event.created_at
                    assert period.starts_at is None or period.starts_at <= at, (name, period, event)
                    assert period.ends_at is None or at < period.ends_at, (name, period, event)
            if is_season and self.boards[board_id].archived_at is None:
                self._check_gaps(board_id, begun)

    def _check_gaps(self, board_id: int, seasons: list[PeriodRow]) -> None:
        """No event of a season is in none."""
        within = {
            seq
            for season in seasons
            for seq in range(
                cast("int", season.first_seq), (len(self.events) if season.last_seq is None else season.last_seq) + 1
            )
        }
        for event in self.events:
            in_time = [p for p in self.periods[board_id] if in_span(p, event.created_at)]
            assert bool(in_time) == (event.seq in within), (self.boards[board_id].name, in_time, event)


def in_span(period: PeriodRow, at: datetime) -> bool:
    return cast("datetime", period.starts_at) <= at < cast("datetime", period.ends_at)


def counts(board: Board, event: Event) -> bool:
    if board.stream is not None:
        return event.kind == "score" and event.stream == board.stream
    return event.kind == "increment" and (board.action is None or event.action == board.action)


def reached(board: Board, user: str, events: list[Event], voids: dict[int, int]) -> Place | None:
    """What these events of a user in a period come to, and the event that reached it."""
    valid = [event for event in events if event.seq not in voids]
    if not valid:
        return None
    if board.fold == "sum":
        score = min(sum(event.points for event in valid), TOP)
        # A void is the last time that the sum changed, and it is later than what it takes back.
        seq = max(voids.get(event.seq, event.seq) for event in events)
    elif board.fold == "latest":
        score, seq = valid[-1].points, valid[-1].seq
    else:
        score = (min if board.order == "lower" else max)(event.points for event in valid)
        seq = next(event.seq for event in valid if event.points == score)
    return Place(user, -score if board.order == "lower" else score, seq)


class Meddler(BoardCopies):
    """Copies whose follower is stopped before it writes to Redis: what it read is old by then."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__(LEADERBOARD)
        self._meddle = meddle

    def _run(self, body: str, *args: Any, **options: Any) -> list[Any]:
        if body not in (scripts.STATE, scripts.READ):
            self._meddle()
        return super()._run(body, *args, **options)


class Run:
    """One random history. The same seed makes the same one, but for what runs at the same time."""

    def __init__(self, seed: int, redis: Redis) -> None:
        self.random = Random(seed)
        self.redis = redis
        self.oracle = Oracle()
        self.copies = BoardCopies(LEADERBOARD)
        self.followers = [BoardFollower(log, Meddler(self.meddle)), BoardFollower(log, Meddler(self.meddle))]
        self.others = ThreadPoolExecutor(1)  # what a follower is stopped for has a connection of its own
        self.is_meddling = False
        self.made = 0
        self.is_forgotten = False  # somebody deleted from the state which sets there are
        self.compared = 0  # periods, in either store
        self.told: list[str] = []  # what was done, for whoever looks for the fault
        self.steps: list[tuple[int, Callable[[], object]]] = [
            (30, self.write),
            (24, self.follow),
            (8, self.look),
            (6, self.void),
            (4, self.moderate),
            (5, self.jump),
            (2, self.make),
            (2, self.both_follow),
            (2, self.damage),
            (1, self.end_board),
            (1, self.begin_epoch),
        ]

    # A run

    def run(self, steps: int) -> Run:
        with interleaved(self.meddle), small():
            self.begin()
            try:
                for _ in range(steps):
                    self.step()
                self.finish()
            finally:
                self.others.submit(connections.close_all).result()
                self.others.shutdown()
        return self

    def begin(self) -> None:
        log.head()
        Leaderboard.objects.update(at=BEGINNING)
        for name in ("win", "kill"):
            Action.objects.create(name=name, points=self.random.randint(1, 3))
        for _ in range(6):
            self.make()

    def step(self) -> None:
        weights, steps = zip(*self.steps, strict=True)
        (step,) = self.random.choices(steps, weights)
        self.told.append(step.__name__)
        step()

    def meddle(self) -> None:
        """What another process does while a follower is stopped; now and then."""
        if self.is_meddling or self.random.random() > 0.15:
            return
        self.is_meddling = True
        try:
            step = self.random.choice([self.write, self.follow, self.follow, self.void, self.jump, self.damage])
            self.told.append(f"({step.__name__})")
            self.others.submit(step).result()
        finally:
            self.is_meddling = False

    # What happens to the log

    def record(self, changes: list[Change]) -> None:
        for outcome in writer.record(changes):
            if isinstance(outcome, Exception) and not isinstance(outcome, Refused):
                raise outcome

    def write(self) -> None:
        streams = [board.stream for board in Board.objects.exclude(stream=None)]
        self.record([self.change(streams) for _ in range(self.random.choice([1, 3, 12]))])

    def change(self, streams: list[str | None]) -> Change:
        user = self.random.choice(USERS)
        if streams and self.random.random() < 0.6:
            stream = self.random.choice(streams)
            return Change(
                Kind.SCORE, user, self.random.choice([1, 2, 3, self.random.randint(-3, 9), TOP]), stream=stream
            )
        if self.random.random() < 0.03:
            return Change(Kind.CORRECTION, user, self.random.randint(0, 20), actor="mod")
        return Change(Kind.INCREMENT, user, self.random.randint(1, 4), action=self.random.choice([None, "win", "kill"]))

    def void(self) -> None:
        """Any event, the best of a board, or all of a user."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT seq, user_id FROM score_events WHERE kind IN ('increment', 'score') ORDER BY seq")
            events = cursor.fetchall()
            cursor.execute("SELECT reached_seq FROM standings ORDER BY key DESC, random() LIMIT 1")
            best = [seq for (seq,) in cursor.fetchall()]
        if not events:
            return
        chosen = [self.random.choice(events)[0]]
        match self.random.randrange(6):
            case 0:
                user = self.random.choice(USERS)
                chosen = [seq for seq, of in events if of == user][-40:]
            case 1 | 2:
                chosen = best
            case 3:
                chosen = [seq for seq, _ in self.random.choices(events[-20:], k=3)]
        users = dict(events)
        self.record([Change(Kind.VOID, users[seq], voids=seq, actor="mod") for seq in chosen if seq in users])

    def moderate(self) -> None:
        kind = self.random.choice([Kind.BLOCK, Kind.UNBLOCK])
        self.record([Change(kind, self.random.choice([*USERS, "service:game"]), actor="mod")])

    def jump(self) -> None:
        """Time passes, sometimes so much of it that the rows of coming periods run out."""
        by = self.random.choice([timedelta(minutes=20), HOUR, HOUR, 3 * HOUR, DAY, 6 * DAY])
        with connection.cursor() as cursor:
            cursor.execute("UPDATE leaderboards SET at = at + make_interval(secs => %s)", [by.total_seconds()])
        if self.random.random() < 0.5:
            roll_over_if_due(log)

    def begin_epoch(self) -> None:
        log.begin_epoch(log.head().origin)

    # What happens to boards

    def make(self) -> None:
        if Board.objects.count() >= 14:
            return
        self.made += 1
        fold = self.random.choice(list(Board.Fold)).value
        fields: dict[str, Any] = {
            "name": f"board{self.made}",
            "fold": fold,
            "order": self.random.choice(list(Board.Order)).value,
            "ties": self.random.choice(list(Board.Ties)).value,
        } | self.period()
        match self.random.choice(SOURCES):
            case "action":
                fields["action"] = self.random.choice(["win", "kill"])
            case "stream":
                fields["stream"] = True
        definitions.create(parse(fields))

    def period(self) -> dict[str, Any]:
        fields: dict[str, Any]
        match self.random.randrange(6):
            case 0:
                return {"period": "forever"}
            case 1:
                fields = {"period": "hourly"}
            case 2:
                fields = {"period": "daily", "zone": "Europe/Berlin", "cutTime": self.random.choice(["00:00", "02:30"])}
            case 3:
                fields = {"period": "weekly", "zone": "America/New_York", "cutWeekday": "sunday", "cutTime": "01:30"}
            case 4:
                fields = {"period": "hours", "everyHours": 5, "anchor": "2020-01-01T00:00:00Z"}
            case _:
                at = BEGINNING + self.random.choice([-3 * HOUR, HOUR, DAY])
                seasons = []
                for _ in range(8):
                    end = at + self.random.choice([HOUR, 5 * HOUR, 2 * DAY])
                    seasons.append({"startsAt": f"{at:%FT%TZ}", "endsAt": f"{end:%FT%TZ}"})
                    at = end + self.random.choice([timedelta(0), HOUR, DAY])
                fields = {"period": "season", "seasons": seasons}
        if self.random.random() < 0.25:
            fields["keep"] = self.random.choice([0, 1, 5])
        return fields

    def end_board(self) -> None:
        begun = Board.objects.filter(periods__first_seq__isnull=False).distinct()
        names = list(begun.order_by("id").values_list("name", flat=True))
        if not names:
            return
        name = self.random.choice(names)
        if self.random.random() < 0.5:
            definitions.delete(name)
        else:
            definitions.extend(log)  # what has no period when a board is archived gets none
            definitions.archive(name)

    # What happens to the stores

    def follow(self) -> None:
        one = self.random.choice(self.followers)
        for _ in range(self.random.choice([1, 1, 4])):
            stepped(self.random.choice([one.fold, one.fold, one.project, one.build, one.tend]))

    def both_follow(self) -> None:
        """Two processes at once. Nothing is done meanwhile that could not also be done a little later."""
        steps = [
            self.random.choice([one.fold, one.fold, one.fold, one.project, one.build, one.tend])
            for one in self.followers
        ]
        self.is_meddling = True
        try:
            for _ in range(3):
                other = self.others.submit(stepped, steps[1])
                stepped(steps[0])
                other.result()
        finally:
            self.is_meddling = False

    def damage(self) -> None:
        """What another hand can do to Redis, as far as sizes show it."""
        key = LEADERBOARD.boards_key
        what = self.random.choice(["flush", "state", "writing", "field", "field", "set", "set", "member", "member"])
        self.is_forgotten |= what in ("state", "field")
        if what == "flush":
            self.redis.flushall()
        elif what == "state":
            self.redis.delete(key)
        elif what == "writing":
            self.redis.hset(key, "writing", "1")
        elif what == "field":
            fields = sorted(cast("list[bytes]", self.redis.hkeys(key)))
            if fields:
                self.redis.hdel(key, self.random.choice(fields).decode())
        else:
            self.damage_set(what)
        if not self.is_meddling:
            self.look()  # at once, before a follower can mend it

    def damage_set(self, what: str) -> None:
        keys = sorted(cast("list[bytes]", self.redis.keys("{leaderboard}:board:*")))
        if not keys:
            return
        key = self.random.choice(keys).decode()
        if what == "set":
            self.redis.delete(key)
            if self.random.random() < 0.3:
                self.redis.set(key, "of another type")
        elif self.redis.type(key) == b"zset":
            self.redis.zadd(key, {b"\x1f" + b"\xff" * 6 + b"planted": 5})
        elif self.redis.type(key) == b"hash":
            self.redis.hset(key, "planted", "of nobody")

    # Comparisons

    def look(self) -> None:
        """Both stores, whole, as they are."""
        self.oracle.read()
        self.oracle.check_periods()
        self.look_at_standings()
        self.look_at_copies()

    def look_at_standings(self) -> None:
        with connection.cursor() as cursor:
            positions = standings.positions(cursor, log.name)
            cursor.execute(ROWS_SQL)
            rows: dict[tuple[int, int], list[tuple[Place, bool]]] = defaultdict(list)
            for board, period, user, key, seq, hidden in cursor.fetchall():
                rows[board, period].append((Place(user, key, seq), hidden))
        blocked_at = cache(self.oracle.blocked)
        for board_id, position in positions.items():
            board, blocked = self.oracle.boards[board_id], blocked_at(position)
            for period in self.oracle.periods[board_id]:
                expected = [(p, p.user_id in blocked) for p in self.oracle.places(board, period, position)]
                found = rows[board_id, period.number]
                assert found == expected, ("standings", described(board), period, position, found, expected)
                self.compared += 1

    def look_at_copies(self) -> dict[int, int]:
        """Returns by board the position of what it answers."""
        asked = [
            (board, period)
            for board in self.oracle.boards.values()
            for period in [period for period in self.oracle.periods[board.id] if period.first_seq is not None][-6:]
        ]
        try:
            answers = self.copies.read(
                log.head().origin,
                [(BoardPageQuestion(b.id, p.number, 10_000, 0), b.ties == "first") for b, p in asked],
            )
        except CopyUnusable:
            return {}
        seen: dict[int, int] = {}
        blocked_at = cache(self.oracle.blocked)
        for (board, period), answer in zip(asked, answers, strict=True):
            if answer is None:
                continue
            blocked = blocked_at(answer.seq)
            places = self.oracle.places(board, period, answer.seq)
            expected = [(p.user_id, p.key) for p in places if p.user_id not in blocked]
            found = [(e.user_id, e.key) for e in answer.entries]
            assert found == expected, ("copy", described(board), period, answer.seq, found, expected)
            assert answer.members == len(expected)
            seen[board.id] = answer.seq
            self.compared += 1
        return seen

    def finish(self) -> None:
        """After all of it, both stores hold everything, and nothing of what is gone."""
        self.settle()
        self.look()
        head = log.head().seq
        with connection.cursor() as cursor:
            positions = standings.positions(cursor, log.name)
            assert positions == dict.fromkeys(self.oracle.boards, head), (positions, head)
            cursor.execute(SCORES_SQL)
            scores = {(board, period, user): capped(int(key)) for board, period, user, key in cursor.fetchall()}
            cursor.execute(ROWS_SQL)
            found = {row[:3]: row[3] for row in cursor.fetchall()}
            assert found == scores, sorted(found.items() ^ scores.items())
            cursor.execute(STRAY_SQL)
            assert (stray := cursor.fetchall()) == [], stray
        begun = {
            board for board, periods in self.oracle.periods.items() if any(p.first_seq is not None for p in periods)
        }
        seen = self.look_at_copies()
        assert seen == dict.fromkeys(begun, head), (seen, head, sorted(begun), self.copies.state(log.head().origin))
        if not self.is_forgotten:
            keys = cast("list[bytes]", self.redis.keys("{leaderboard}:board:*"))
            assert {int(key.split(b":")[2]) for key in keys} <= self.oracle.boards.keys(), (keys, self.oracle.boards)

    def settle(self) -> None:
        self.is_meddling = True
        one = self.random.choice(self.followers)
        for _ in range(400):
            if not any([stepped(one.build), stepped(one.project), stepped(one.tend), stepped(one.fold)]):
                self.oracle.read()
                self.look_at_copies()  # drops what is damaged
                if not any([stepped(one.build), stepped(one.project), stepped(one.tend), stepped(one.fold)]):
                    break
        else:
            raise AssertionError("the follower is never done")
        self.is_meddling = False


def capped(score: int) -> int:
    return max(-TOP, min(TOP, score))


def described(board: Board) -> str:
    return f"{board.name}: {board.fold} {board.order} {board.ties} {board.period} {board.stream or board.action}"


def stepped(step: Callable[[], bool]) -> bool:
    """A step of a follower, as its runner does it: it begins anew when Redis cannot be used, or its connection was ended."""
    try:
        return step()
    except CopyUnusable:
        return True
    except (OperationalError, InternalError):  # it idled in a transaction: the machine stood still
        connection.close()
        return True


@contextmanager
def small() -> Iterator[None]:
    """Slices, scripts and portions so small that they are cut everywhere."""
    with ExitStack() as stack:
        for module, values in SMALL.items():
            for name, value in values.items():
                stack.enter_context(patch.object(module, name, value))
        yield


@contextmanager
def interleaved(meddle: Callable[[], None]) -> Iterator[None]:
    """Between what a follower reads in PostgreSQL and what it writes there, others get their turn too."""
    before = standings.project, standings.build

    def after_others(write: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(write)
        def written(*args: Any, **options: Any) -> Any:
            meddle()
            return write(*args, **options)

        return written

    try:
        standings.project, standings.build = after_others(before[0]), after_others(before[1])
        yield
    finally:
        standings.project, standings.build = before
