"""The oracle: folds the log by itself and compares it with every store, and with what everybody was told."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import psycopg
from redis import Redis as RedisClient

from .load import Load, Operation, Sight

COPY_WITHIN_S = 10.0  # else the copy does not heal
# Both halves of the copy at one moment.
COPY = "return {redis.call('HGET', KEYS[2], 'seq'), redis.call('ZREVRANGE', KEYS[1], 0, -1, 'WITHSCORES')}"


class Event(NamedTuple):
    seq: int
    user_id: str
    points: int
    total: int
    key: str | None


@dataclass
class Verdict:
    """What was wrong after a fault; all zero is right."""

    operations: int = 0
    lost: int = 0  # acknowledged, and not in the log
    doubled: int = 0  # in the log more often than anybody can have asked for
    misled: int = 0  # boards that were shown and never were, or went back
    slowest_s: float = 0.0  # answer to an increment
    silence_s: float = 0.0  # of a socket while there were changes to show
    cuts: int = 0  # sockets that ended before their client did
    problems: tuple[str, ...] = ()


class Fold:
    """The totals after each event, from nothing but the log."""

    def __init__(self) -> None:
        self.seq = 0
        self.totals: dict[str, int] = {}
        self.events: list[Event] = []  # the new ones, until they are taken
        self._after: dict[int, dict[str, int]] = {0: {}}

    def read(self, database: psycopg.Connection[Any]) -> None:
        """Take in the events that are new."""
        rows = database.execute(
            "SELECT seq, user_id, points, total, idempotency_key FROM score_events WHERE seq > %s ORDER BY seq",
            [self.seq],
        )
        for event in map(Event._make, rows):
            assert event.seq == self.seq + 1, f"event {self.seq + 1} is missing"
            assert self.totals.get(event.user_id, 0) + event.points == event.total, f"{event} does not add up"
            self.seq = event.seq
            self.totals = self.totals | {event.user_id: event.total}
            self._after[self.seq] = self.totals
            self.events.append(event)

    def board(self, seq: int, limit: int | None = None) -> list[tuple[str, int]] | None:
        """The board right after event `seq`, best first; `None` if there is no such event yet."""
        if seq not in self._after:
            return None
        rows = sorted(self._after[seq].items(), key=lambda row: (row[1], row[0].encode()), reverse=True)
        return rows[:limit]

    def history_until(self, seq: int) -> Fold:
        """What a database knows that is put back to the moment after event `seq`."""
        past = Fold()
        past.seq, past.totals = seq, self._after[seq]
        past._after = {known: totals for known, totals in self._after.items() if known <= seq}
        return past

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def forget_before(self, seq: int) -> None:
        self._after = {known: totals for known, totals in self._after.items() if known >= seq}


class Oracle:
    def __init__(self, redis: RedisClient) -> None:
        self.redis = redis
        self.fold = Fold()
        self._lost: dict[str, Fold] = {}  # by epoch: histories that ended with a database that was put back
        self._judged = [0, 0]  # the ends of the log at the last judgements
        self._open: Counter[tuple[str, int]] = Counter()  # without a key, and nobody knows whether they will come

    def copy_is_exact(self, database: psycopg.Connection[Any], *, at_least: int) -> bool:
        """Whether Redis holds exactly the state after some event, and that event is `at_least` or later."""
        script: Any = self.redis.eval(COPY, 2, "leaderboard", "leaderboard:state")
        seq, rows = script
        if seq is None or int(seq) < at_least:
            return False
        self.fold.read(database)
        return [(m.decode(), int(s)) for m, s in zip(rows[::2], rows[1::2], strict=True)] == self.fold.board(int(seq))

    def judge(self, database: psycopg.Connection[Any], load: Load) -> Verdict:
        """Compare everything, while the load is paused, and forget what was told before.

        Increments whose fate their clients do not know are retried with their keys first, as a good client does.
        """
        verdict = Verdict()
        told, load.told.operations = load.told.operations, []
        told = [load.retry(op) if op.outcome == "unknown" and op.key is not None else op for op in told]
        self.fold.read(database)
        self._wait_for_the_copy(database)
        verdict.operations = len(told)
        verdict.lost, verdict.doubled = self._account(told, self.fold.take_events())
        reads, load.told.reads = load.told.reads, []
        verdict.misled = sum(not self._was(sight) for sight in reads)
        for connection in load.told.sockets:
            frames = connection.frames[: len(connection.frames)]
            verdict.misled += sum(not self._was(sight) for sight in frames[connection.judged :])
            verdict.misled += sum(a.epoch == b.epoch and a.seq > b.seq for a, b in pairwise(frames))
            connection.judged = len(frames)
        verdict.slowest_s, load.told.slowest_s = load.told.slowest_s, 0.0
        verdict.silence_s, load.told.silence_s = load.told.silence_s, 0.0
        verdict.cuts, load.told.cuts = load.told.cuts, 0
        verdict.problems = (*load.told.mistakes, *self._disagreements(database))
        load.told.mistakes.clear()
        self._judged = [self._judged[1], self.fold.seq]
        self.fold.forget_before(self._judged[0])
        return verdict

    def _wait_for_the_copy(self, database: psycopg.Connection[Any]) -> None:
        """A retry is an event as well, and the tail may have to bring it to Redis: on a busy machine the hook gives up."""
        until = time.monotonic() + COPY_WITHIN_S
        while not self.copy_is_exact(database, at_least=self.fold.seq) and time.monotonic() < until:
            time.sleep(0.01)

    def _account(self, told: list[Operation], events: list[Event]) -> tuple[int, int]:
        """How many acknowledged increments are not in the log, and how many events nobody can have asked for."""
        keyed: dict[tuple[str, str | None], Event] = {
            (event.user_id, event.key): event for event in events if event.key is not None
        }
        unasked = len(events) - len(keyed)  # keys are the database's to hold unique; said here for completeness
        lost = 0
        for op in (op for op in told if op.key is not None):
            event = keyed.pop((op.user_id, op.key), None)
            if op.outcome == "acknowledged":
                lost += event is None or (event.points, event.total) != (op.points, op.total)
            else:
                unasked += event is not None  # it was refused
        plain: Counter[tuple[str, int, int | None]] = Counter(
            (event.user_id, event.points, event.total) for event in events if event.key is None
        )
        unasked += len(keyed) - plain.total()
        acknowledged = Counter(
            (op.user_id, op.points, op.total) for op in told if op.key is None and op.outcome == "acknowledged"
        )
        lost += (acknowledged - plain).total()
        self._open += Counter((op.user_id, op.points) for op in told if op.key is None and op.outcome == "unknown")
        for user_id, points, _ in (plain - acknowledged).elements():
            if self._open[user_id, points] > 0:
                self._open[user_id, points] -= 1
            else:
                unasked += 1
        return lost, unasked

    def lose_history_after(self, seq: int, database: psycopg.Connection[Any]) -> None:
        """The database is about to be put back to the moment after event `seq`, while nobody writes.

        From then on, what names the epoch of now must be of the history that it had, and nothing of it may be anywhere
        else.
        """
        row = database.execute("SELECT left(epoch::text, 8) FROM leaderboards").fetchone()
        assert row
        self.fold.read(database)
        self._lost[row[0]] = self.fold
        self.fold = self.fold.history_until(seq)
        self._judged = [seq, seq]

    def _was(self, sight: Sight) -> bool:
        """Whether the board really was what somebody was shown."""
        history = self._lost.get(sight.epoch.partition("-")[0], self.fold)
        return sight.board == history.board(sight.seq, sight.limit)

    def _disagreements(self, database: psycopg.Connection[Any]) -> list[str]:
        """Where the stores differ from the fold of the log, at rest."""
        found = []
        table = dict(database.execute("SELECT user_id, score FROM user_scores"))
        if table != self.fold.totals:
            found.append("user_scores is not the sum of the events")
        ordered = database.execute("SELECT user_id FROM user_scores ORDER BY score DESC, user_id DESC LIMIT 1000")
        range_: Any = self.redis.zrevrange("leaderboard", 0, 999)
        if [user_id for (user_id,) in ordered] != [member.decode() for member in range_]:
            found.append("the first 1,000 are in another order in Redis")
        if not self.copy_is_exact(database, at_least=self.fold.seq):
            found.append("the copy is not the state after the newest event")
        return found
