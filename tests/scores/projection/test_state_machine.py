"""Anything, in any order: whatever is asked, lost, delayed or broken, the copy, the table and the log agree in the end.

Hypothesis makes up the order, and shrinks what fails to the shortest story that still does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis

from scores import models, selectors
from scores.board import LEADERBOARD
from scores.exceptions import Refused
from scores.log.ledger import Change, Kind, Recorded
from scores.log.writer import writer
from scores.models import ScoreEvent, UserScore
from scores.projection.leaderboard import Entry, PageQuestion, leaderboard
from scores.projection.receivers import move_leaderboard
from scores.projection.tail import Tail
from scores.signals import scores_committed
from tests.conftest import empty_board
from tests.scores.conftest import copy_is_true, hooks_lost

users = st.sampled_from(["ann", "bob", "cid", "Zoë"])
points = st.integers(1, 50)
keys = st.none() | st.sampled_from(["k1", "k2"])
hooks = st.sampled_from(["told", "told", "lost", "late"])


class Model:
    """What should be true, in plain Python."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.blocked: set[str] = set()
        self.keyed: dict[tuple[str, str], tuple[int, int, int]] = {}  # points, seq, total
        self.boards: list[dict[str, int]] = [{}]  # after each event
        self.voidable: dict[int, tuple[str, int]] = {}  # by seq: who, and how many points a void takes back

    def add(self, user_id: str, total: int) -> Recorded:
        self.totals[user_id] = total
        return self.note(user_id)

    def note(self, user_id: str) -> Recorded:
        self.boards.append({user: total for user, total in self.totals.items() if user not in self.blocked})
        return Recorded(self.seq, self.totals.get(user_id, 0))

    @property
    def seq(self) -> int:
        return len(self.boards) - 1

    def page(self, seq: int) -> list[tuple[str, int]]:
        rows = self.boards[seq].items()
        return sorted(rows, key=lambda row: (row[1], row[0].encode()), reverse=True)


class Board(RuleBasedStateMachine):
    """One writer, one copy, a tail that looks when it is told to, and somebody who breaks things."""

    redis: Redis

    def __init__(self) -> None:
        super().__init__()
        empty_board()
        models.Board.objects.create(name="laps", fold="best", stream="laps")
        self.model = Model()
        self.tail = Tail(leaderboard)
        self.tail.check()
        self.late: list[dict[str, Any]] = []  # hooks that are still to come
        self.saved: dict[str, Any] = {}
        self.tampered = False  # the copy is wrong, and of the size it should be: nothing but the sweep can know

    # Writes

    @rule(user_id=users, add=points, key=keys, hook=hooks)
    def increment(self, user_id: str, add: int, key: str | None, hook: str) -> None:
        earlier = self.model.keyed.get((user_id, key)) if key else None
        outcome = self.write(Change(Kind.INCREMENT, user_id, add, key), hook)

        if earlier is not None:
            before, seq, total = earlier
            assert outcome == (Recorded(seq, total, replayed=True) if before == add else "idempotency_key_reused")
        elif user_id in self.model.blocked:
            assert outcome == "user_blocked"
        else:
            expected = self.model.add(user_id, self.model.totals.get(user_id, 0) + add)
            assert outcome == expected
            self.model.voidable[expected.seq] = user_id, add
            if key:
                self.model.keyed[user_id, key] = (add, expected.seq, expected.total)

    @rule(user_id=users, total=st.integers(0, 60), hook=hooks)
    def correct(self, user_id: str, total: int, hook: str) -> None:
        outcome = self.write(Change(Kind.CORRECTION, user_id, total, actor="test", reason="test"), hook)

        if user_id in self.model.blocked:
            assert outcome == "user_blocked"
            return
        assert outcome == self.model.add(user_id, total)
        for seq, (who, _) in self.model.voidable.items():
            if who == user_id:
                self.model.voidable[seq] = who, 0  # the total does not go back behind the correction

    @rule(user_id=users, lap=st.integers(-5, 5), hook=hooks)
    def score(self, user_id: str, lap: int, hook: str) -> None:
        outcome = self.write(Change(Kind.SCORE, user_id, lap, stream="laps"), hook)

        if user_id in self.model.blocked:
            assert outcome == "user_blocked"
        else:
            self.model.note(user_id)
            assert outcome == Recorded(self.model.seq, lap)
            self.model.voidable[self.model.seq] = user_id, 0

    @precondition(lambda self: self.model.voidable)
    @rule(data=st.data(), hook=hooks)
    def void(self, data: st.DataObject, hook: str) -> None:
        """Also of an event of somebody who is blocked."""
        seq = data.draw(st.sampled_from(sorted(self.model.voidable)))
        user_id, points = self.model.voidable.pop(seq)
        outcome = self.write(Change(Kind.VOID, user_id, voids=seq, actor="test", reason="test"), hook)

        if user_id in self.model.totals:
            assert outcome == self.model.add(user_id, self.model.totals[user_id] - points)
        else:
            assert outcome == self.model.note(user_id)
        again = self.write(Change(Kind.VOID, user_id, voids=seq, actor="test", reason="test"), hook)
        assert again == "already_voided"

    @rule(user_id=users, hook=hooks)
    def block(self, user_id: str, hook: str) -> None:
        known = user_id in self.model.blocked
        outcome = self.write(Change(Kind.BLOCK, user_id, actor="test", reason="test"), hook)
        self.model.blocked.add(user_id)

        assert outcome == ("already_blocked" if known else self.model.note(user_id))

    @rule(user_id=users, hook=hooks)
    def unblock(self, user_id: str, hook: str) -> None:
        known = user_id in self.model.blocked
        outcome = self.write(Change(Kind.UNBLOCK, user_id, actor="test", reason="test"), hook)
        self.model.blocked.discard(user_id)

        assert outcome == (self.model.note(user_id) if known else "not_blocked")

    def write(self, change: Change, hook: str) -> Recorded | str:
        with {"told": told, "lost": hooks_lost, "late": self.hooks_late}[hook]():
            (outcome,) = writer.record([change])
        if isinstance(outcome, Refused):
            return outcome.code
        assert isinstance(outcome, Recorded)
        return outcome

    @contextmanager
    def hooks_late(self) -> Iterator[None]:
        def keep(sender: object, signal: object, **facts: Any) -> None:
            self.late.append(facts)

        with hooks_lost():
            scores_committed.connect(keep)
            try:
                yield
            finally:
                scores_committed.disconnect(keep)

    @precondition(lambda self: self.late)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data: st.DataObject, again: bool) -> None:
        """Any of the late ones, and perhaps not for the last time."""
        which = data.draw(st.integers(0, len(self.late) - 1))
        facts = self.late[which] if again else self.late.pop(which)

        move_leaderboard(sender=None, **facts)

    # Misfortune

    @rule(
        words=st.sampled_from(
            [
                ("FLUSHALL",),
                ("DEL", LEADERBOARD.key),
                ("DEL", LEADERBOARD.state_key),
                ("ZREM", LEADERBOARD.key, "ann"),
                ("ZADD", LEADERBOARD.key, "7", "eve"),
            ]
        )
    )
    def break_copy(self, words: tuple[str, ...]) -> None:
        self.redis.execute_command(*words)  # type: ignore[no-untyped-call]
        self.tampered = self.tampered or self.looks_whole_and_is_not()

    @rule(user_id=users)
    def change_score(self, user_id: str) -> None:
        self.redis.zadd(LEADERBOARD.key, {user_id: 999}, xx=True)
        self.tampered = self.tampered or self.looks_whole_and_is_not()

    def looks_whole_and_is_not(self) -> bool:
        """One member removed and another one added, say: each alone shows in the size, both together do not."""
        state = leaderboard.state()
        if state is None or state.size != state.members:
            return False
        rows: Any = self.redis.zrevrange(LEADERBOARD.key, 0, -1, withscores=True)
        return [(member.decode(), int(score)) for member, score in rows] != self.model.page(state.seq)

    @rule()
    def save_rdb(self) -> None:
        if not self.tampered:
            self.saved = {key: self.redis.dump(key) for key in (LEADERBOARD.key, LEADERBOARD.state_key)}

    @precondition(lambda self: self.saved)
    @rule()
    def load_rdb(self) -> None:
        self.redis.flushall()
        for key, value in self.saved.items():
            if value is not None:
                self.redis.restore(key, 0, value)

    # Healing

    @rule()
    def tick(self) -> None:
        self.tail.check()

    @rule(force=st.booleans())
    def rebuild(self, force: bool) -> None:
        leaderboard.rebuild(force=force)
        if force:
            self.tampered = False

    # Truth

    @invariant()
    def nobody_is_misled(self) -> None:
        """Whatever is read is the board right after the event it names, whichever store it is from."""
        if self.tampered:
            return
        (page,) = selectors.reader.answer_questions([PageQuestion(100, 0)])
        assert isinstance(page, selectors.Page)
        assert [(entry.user_id, entry.score) for entry in page.entries] == self.model.page(page.seq)
        assert page.total == len(page.entries)
        assert ranks(page.entries) == [entry.rank for entry in page.entries]

    def teardown(self) -> None:
        """Quiet: after a few looks everything agrees, down to the last member."""
        for _ in range(4):
            self.tail.check()
        for facts in self.late:  # and whatever comes now comes too late
            move_leaderboard(sender=None, **facts)

        assert copy_is_true(self.redis)
        assert dict(UserScore.objects.values_list("user_id", "score")) == self.model.totals
        events = list(ScoreEvent.objects.order_by("seq").values_list("seq", "user_id", "points", "total", "stream"))
        assert [seq for seq, *_ in events] == list(range(1, len(self.model.boards)))
        running: dict[str, int] = {}
        for _, user_id, added, total, stream in events:
            if stream is not None:
                continue
            running[user_id] = running.get(user_id, 0) + added
            assert running[user_id] == total
        assert running == self.model.totals


@contextmanager
def told() -> Iterator[None]:
    yield


def ranks(entries: list[Entry]) -> list[int]:
    scores = [entry.score for entry in entries]
    return [1 + sum(other > score for other in scores) for score in scores]


@pytest.mark.usefixtures("board")
def test_whatever_happens_the_stores_agree_in_the_end_and_nobody_is_misled(redis: Redis) -> None:
    Board.redis = redis

    run_state_machine_as_test(
        Board,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
