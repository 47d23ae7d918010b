"""A database that is put back under a running service continues with the same numbers: no two histories are mixed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from redis import Redis

from scores.exceptions import Damaged
from scores.log.head import Log, log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.rank_index import RankIndexer
from scores.log.writer import Writer
from scores.models import ScoreEvent, UserScore
from scores.projection.leaderboard import Copy, PageQuestion, leaderboard
from scores.projection.tail import Tail
from scores.selectors import Page, Reader
from tests.scores.conftest import copy_is_true

MICROSECOND = timedelta(microseconds=1)


def add(points: int, *user_ids: str) -> list[Change]:
    return [Change(Kind.INCREMENT, user_id, points) for user_id in user_ids]


class Process:
    """One of the service's, with a memory of its own."""

    def __init__(self) -> None:
        self.log = Log("leaderboard")
        self.writer = Writer(self.log)
        self.copy = Copy(leaderboard.board, self.log)
        self.tail = Tail(self.copy)
        self.reader = Reader(self.copy, self.tail, RankIndexer(self.log))

    def top(self) -> tuple[str, int, list[tuple[str, int]]]:
        (page,) = self.reader.answer_questions([PageQuestion(10, 0)])
        assert isinstance(page, Page)
        return page.epoch, page.seq, [(entry.user_id, entry.score) for entry in page.entries]


@pytest.fixture
def process(redis: Redis) -> Iterator[Process]:
    """It wrote five events, and its copy has them."""
    process = Process()
    process.tail.check()
    process.writer.record(add(10, "ann", "bob"))
    process.writer.record(add(5, "bob", "cid", "ann"))
    assert copy_is_true(redis)
    yield process
    log.saw(log.head())  # what this test did to the log is not to be held against the next


def seq_of(redis: Redis) -> int:
    seq: Any = redis.hget("leaderboard:state", "seq")
    return int(seq)


def put_back() -> None:
    """The database is as it was after its second event, as if from a backup."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM score_events WHERE seq > 2")
        cursor.execute("DELETE FROM user_scores WHERE user_id = 'cid'")
        cursor.execute("UPDATE user_scores SET score = 10")
        cursor.execute("UPDATE leaderboards SET seq = 2, members = 2")


def put_back_and_pushed_on(*user_ids: str) -> None:
    """And somebody who knows nothing of it went on, past the number that was lost, before anybody looked."""
    put_back()
    Process().writer.record(add(1, *(user_ids or ("ann", "bob", "dan", "ann"))))


def test_a_writer_that_saw_what_was_lost_begins_a_new_epoch(process: Process, redis: Redis) -> None:
    before = process.log.head()
    put_back()

    assert process.writer.record(add(7, "ann")) == [Recorded(3, 17)]

    after = Process().log.head()
    assert (after.origin != before.origin, after.seq) == (True, 3)


@pytest.mark.parametrize("pushed_on", [False, True])
def test_whoever_reads_the_head_begins_a_new_epoch(pushed_on: bool, process: Process) -> None:
    before = process.log.head()
    if pushed_on:
        put_back_and_pushed_on()
    else:
        put_back()

    assert process.log.head().origin != before.origin
    assert process.log.head() == Process().log.head()  # once


def test_a_read_from_the_database_is_of_the_new_epoch_at_once(process: Process, redis: Redis) -> None:
    epoch, seq, _ = process.top()
    put_back_and_pushed_on("ann", "ann", "ann")
    redis.flushall()

    with process.log.snapshot() as head:
        assert head.origin != epoch
    assert process.top() == (Process().log.head().origin, seq, [("ann", 13), ("bob", 10)])


def test_a_copy_of_a_lost_history_is_not_moved_on(process: Process, redis: Redis) -> None:
    """By a process that started after the database was put back, and so saw nothing of the lost history."""
    put_back_and_pushed_on("ann", "bob", "cid")  # as many events and members as were lost
    before = redis.zrange("leaderboard", 0, -1, withscores=True)

    Process().writer.record(add(1, "ann"))

    assert redis.zrange("leaderboard", 0, -1, withscores=True) == before
    assert seq_of(redis) == 5


def test_nor_by_catching_up_with_what_it_missed(process: Process) -> None:
    put_back_and_pushed_on("ann", "bob", "cid", "cid")
    stranger = Process()

    with pytest.raises(Damaged, match="diverged"):
        stranger.copy.catch_up(stranger.log.head())


@pytest.mark.parametrize("user_ids", [("ann",), ("ann", "bob", "cid"), ("ann", "bob", "cid", "cid")])
def test_a_tail_that_saw_nothing_finds_it_by_the_event_of_the_copy(
    user_ids: tuple[str, ...], process: Process, redis: Redis
) -> None:
    """Whether the new history is shorter than the copy's, as long, or longer."""
    before = process.log.head()
    put_back_and_pushed_on(*user_ids)
    stranger = Process()

    stranger.tail.check()

    assert stranger.log.head().origin != before.origin
    assert stranger.top()[:2] == (stranger.log.head().origin, stranger.log.head().seq)
    assert dict(stranger.top()[2]) == dict(UserScore.objects.values_list("user_id", "score"))
    assert copy_is_true(redis)


def test_a_repair_under_the_lock_does_not_mix_them_either(process: Process) -> None:
    put_back_and_pushed_on()

    with pytest.raises(Damaged, match="diverged"), transaction.atomic():
        process.log.locked_head()


def test_two_processes_that_find_out_begin_one_epoch(process: Process) -> None:
    other = Process()
    other.log.head()
    put_back()

    origins = {process.log.head().origin, other.log.head().origin, process.log.head().origin}

    assert len(origins) == 1


def test_an_event_that_was_archived_proves_nothing(process: Process) -> None:
    before = process.log.head()
    Process().writer.record(add(1, "ann"))
    ScoreEvent.objects.filter(seq__lte=5).delete()

    assert process.log.head().origin == before.origin


def test_a_copy_that_an_earlier_version_moved_is_believed(process: Process, redis: Redis) -> None:
    """It knows no marks, and leaves the one of an earlier event."""
    before = process.log.head()
    mark: Any = redis.hget("leaderboard:state", "mark")
    process.writer.record(add(1, "ann"))
    redis.hset("leaderboard:state", "mark", mark)

    process.tail.check()

    assert process.log.head().origin == before.origin
    process.writer.record(add(1, "ann"))
    assert copy_is_true(redis)


def test_the_newest_event_alone_tells_two_histories_apart(process: Process) -> None:
    """A microsecond is enough."""
    before = process.log.head()
    ScoreEvent.objects.filter(seq=5).update(created_at=F("created_at") + MICROSECOND)

    assert process.log.head().origin != before.origin


def test_a_commit_that_follows_is_no_other_history(process: Process, redis: Redis) -> None:
    before = process.log.head()
    Process().writer.record(add(1, "ann", "eve"))
    process.writer.record(add(1, "bob"))
    process.tail.check()

    assert process.log.head().origin == before.origin
    assert copy_is_true(redis)
    assert process.top()[2][0] == ("bob", 16)
