"""Transactions of many changes: one order among all writers, whatever happens to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from redis import Redis

from scores import selectors, services, signals
from scores.exceptions import NotBlocked, OutcomeUnknown, TotalTooLarge, Unavailable, UnknownEvent, UserBlocked
from scores.log.head import log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.writer import PART, writer
from scores.models import MAX_TOTAL, Block, Leaderboard, ScoreEvent, UserScore
from scores.projection.leaderboard import PageQuestion, leaderboard
from scores.stores.batcher import Batcher
from tests.polling import until
from tests.scores.conftest import copy_is_true, nothing_was_written


def add(user_id: str, points: int, key: str | None = None) -> Change:
    return Change(Kind.INCREMENT, user_id, points, key)


@contextmanager
def hearing() -> Iterator[list[dict[str, Any]]]:
    """What `scores_committed` says meanwhile."""
    heard: list[dict[str, Any]] = []

    def hear(sender: object, *, signal: object, **facts: Any) -> None:
        heard.append(facts)

    signals.scores_committed.connect(hear)
    try:
        yield heard
    finally:
        signals.scores_committed.disconnect(hear)


@pytest.fixture
def make_batcher(board: None) -> Iterator[Callable[[], Batcher[Change, Recorded]]]:
    """Makes writers as other processes have them: each with a thread and a connection of its own."""
    batchers: list[Batcher[Change, Recorded]] = []

    def make() -> Batcher[Change, Recorded]:
        batchers.append(Batcher("writer of a test", writer.record, max_batch=16, max_queued=1_000, timeout_s=10))
        return batchers[-1]

    yield make
    for batcher in batchers:
        batcher.close()


# One transaction


def test_everybody_gets_the_total_right_after_their_own_change(board: None) -> None:
    outcomes = writer.record([add("ann", 1), add("bob", 5), add("ann", 2), add("ann", 4)])

    assert outcomes == [Recorded(1, 1), Recorded(2, 5), Recorded(3, 3), Recorded(4, 7)]
    assert dict(UserScore.objects.values_list("user_id", "score")) == {"ann": 7, "bob": 5}
    assert list(ScoreEvent.objects.order_by("seq").values_list("seq", "user_id", "points", "total")) == [
        (1, "ann", 1, 1),
        (2, "bob", 5, 5),
        (3, "ann", 2, 3),
        (4, "ann", 4, 7),
    ]
    assert log.head()[1:3] == (4, 2)


def test_one_refused_change_does_not_fail_its_neighbours(board: None) -> None:
    outcomes = writer.record([add("ann", 1), add("bob", MAX_TOTAL + 1), Change(Kind.UNBLOCK, "ann"), add("cid", 2)])

    assert outcomes[0] == Recorded(1, 1)
    assert isinstance(outcomes[1], TotalTooLarge)
    assert isinstance(outcomes[2], NotBlocked)
    assert outcomes[3] == Recorded(2, 2)
    assert set(UserScore.objects.values_list("user_id", flat=True)) == {"ann", "cid"}


def test_what_is_refused_altogether_is_not_told(board: None) -> None:
    with hearing() as heard:
        writer.record([add("ann", MAX_TOTAL + 1)])

    assert heard == []
    assert nothing_was_written()


def test_a_key_counts_once_in_one_transaction_and_over_several(board: None) -> None:
    first = writer.record([add("ann", 5, "k"), add("ann", 5, "k"), add("bob", 5, "k")])
    later = writer.record([add("bob", 1), add("bob", 5, "k")])

    assert first == [Recorded(1, 5), Recorded(1, 5, replayed=True), Recorded(2, 5)]
    assert later == [Recorded(3, 6), Recorded(2, 5, replayed=True)]


def test_a_block_and_what_follows_it_fit_in_one_transaction(board: None) -> None:
    with hearing() as heard:
        outcomes = writer.record(
            [
                add("ann", 1),
                Change(Kind.BLOCK, "ann"),
                add("ann", 1),
                Change(Kind.BLOCK, "bob"),
                add("cid", 3),
                Change(Kind.UNBLOCK, "bob"),
            ]
        )

    assert isinstance(outcomes[2], UserBlocked)
    assert heard[0]["totals"] == {"ann": None, "cid": 3}  # to block bob gives him no score
    assert list(Block.objects.values_list("user_id", "seq")) == [("ann", 2)]
    assert log.head().members == 1


def test_who_changed_a_score_and_why_is_in_the_log(board: None) -> None:
    services.correct(user_id="ann", total=7, actor="admin", reason="lost in the outage")
    services.block(user_id="ann", actor="mod", reason="speed hack")

    assert list(ScoreEvent.objects.order_by("seq").values_list("kind", "points", "total", "actor", "reason")) == [
        ("correction", 7, 7, "admin", "lost in the outage"),
        ("block", 0, 7, "mod", "speed hack"),
    ]


def test_an_event_and_its_total_are_of_the_same_moment(board: None) -> None:
    writer.record([add("ann", 1)])

    assert ScoreEvent.objects.get().created_at == UserScore.objects.get().updated_at


def test_a_thousand_users_fit_in_one_transaction(board: None) -> None:
    changes = [add(f"user{number:04}", number + 1, f"key{number}") for number in range(1_000)]

    assert writer.record(changes) == [Recorded(number, number) for number in range(1, 1_001)]
    assert log.head()[1:3] == (1_000, 1_000)


def test_changes_of_all_kinds_are_one_transaction_over_several_parts(board: None) -> None:
    """Events that are alike and events that are not, a key of an earlier part, and a part of which nothing is recorded."""
    changes = [add(f"user{number:03}", 1, f"key{number}") for number in range(PART)]
    changes += [
        add("ann", 2),
        Change(Kind.CORRECTION, "bob", 9, actor="mod", reason='so "it" is'),
        Change(Kind.BLOCK, "cid"),
    ]
    changes += [add("cid", 1) for _ in range(2 * PART)]
    changes += [
        add("user000", 1, "key0"),
        Change(Kind.UNBLOCK, "cid"),
        add("cid", 4),
        Change(Kind.VOID, "ann", voids=None),
    ]

    with hearing() as heard:
        outcomes = writer.record(changes)

    recorded = PART + 3
    assert outcomes[:PART] == [Recorded(number + 1, 1) for number in range(PART)]
    assert outcomes[PART : PART + 3] == [Recorded(PART + 1, 2), Recorded(PART + 2, 9), Recorded(PART + 3, 0)]
    assert {type(outcome) for outcome in outcomes[recorded:-4]} == {UserBlocked}
    assert outcomes[-4:-1] == [Recorded(1, 1, replayed=True), Recorded(PART + 4, 0), Recorded(PART + 5, 4)]
    assert isinstance(outcomes[-1], UnknownEvent)
    rest = ScoreEvent.objects.filter(seq__gt=PART).order_by("seq")
    assert list(rest.values_list("kind", "user_id", "points", "total", "actor", "reason", "stream")) == [
        ("increment", "ann", 2, 2, "", "", None),
        ("correction", "bob", 9, 9, "mod", 'so "it" is', None),
        ("block", "cid", 0, 0, "", "", ""),
        ("unblock", "cid", 0, 0, "", "", ""),
        ("increment", "cid", 4, 4, "", "", None),
    ]
    assert ScoreEvent.objects.values("created_at").distinct().count() == 1
    assert [(facts["first"], facts["last"]) for facts in heard] == [(1, PART + 5)]


def test_of_a_batch_nothing_is_kept_when_its_last_part_cannot_be_saved(board: None) -> None:
    changes = [add(f"user{number:03}", 1) for number in range(2 * PART)]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE score_events ADD CONSTRAINT odd CHECK (user_id <> 'user{2 * PART - 1:03}')")
    try:
        with pytest.raises(Unavailable):
            writer.record(changes)
        assert nothing_was_written()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE score_events DROP CONSTRAINT odd")

    assert writer.record(changes)[-1] == Recorded(2 * PART, 1)


def test_nothing_asked_is_nothing_done(board: None) -> None:
    assert writer.record([]) == []
    assert nothing_was_written()


# Telling


def test_what_is_told_is_committed(rival: BaseDatabaseWrapper) -> None:
    seen: list[tuple[int, int]] = []

    def look(sender: object, *, first: int, last: int, **facts: Any) -> None:
        with rival.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM score_events WHERE seq BETWEEN %s AND %s", [first, last])
            seen.append((cursor.fetchone()[0], last))

    signals.scores_committed.connect(look)
    try:
        writer.record([add("ann", 1), add("bob", 2)])
        writer.record([add("ann", 1)])
    finally:
        signals.scores_committed.disconnect(look)

    assert seen == [(2, 2), (1, 3)]


def test_what_is_told_is_all_that_the_copy_needs(board: None) -> None:
    with hearing() as heard:
        writer.record([add("ann", 1), add("bob", 2), add("ann", 3)])

    head = log.head()
    facts = {"origin": head.origin, "first": 1, "last": 3, "members": 2, "totals": {"ann": 4, "bob": 2}}
    assert heard == [facts | {"mark_before": 0, "mark": head.mark}]
    assert head.mark == ScoreEvent.objects.get(seq=3).created_at.timestamp() * 1_000_000


@pytest.mark.receiver_fails
def test_a_receiver_that_fails_does_not_fail_the_write(board: None) -> None:
    def fail(sender: object, **facts: Any) -> None:
        raise RuntimeError("the receiver is broken")

    signals.scores_committed.connect(fail)
    try:
        assert writer.record([add("ann", 1)]) == [Recorded(1, 1)]
    finally:
        signals.scores_committed.disconnect(fail)

    assert UserScore.objects.get().score == 1


# Many writers


def test_many_writers_make_one_log_without_gaps(
    make_batcher: Callable[[], Batcher[Change, Recorded]], redis: Redis
) -> None:
    """They start on an empty database: making the first row is part of the race."""
    batchers = [make_batcher() for _ in range(4)]
    users = ["ann", "bob", "cid"]

    def write(number: int) -> tuple[str, Recorded]:
        user = users[number % 3]
        return user, batchers[number % 4].submit_and_wait(add(user, 1))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(write, range(120)))

    assert sorted(recorded.seq for _, recorded in answers) == list(range(1, 121))
    for user in users:
        of_user = sorted((recorded.seq, recorded.total) for answered, recorded in answers if answered == user)
        assert [total for _, total in of_user] == list(range(1, 41))
    assert log.head()[1:3] == (120, 3)
    assert list(ScoreEvent.objects.order_by("seq").values_list("seq", flat=True)) == list(range(1, 121))


def test_many_writers_move_one_copy(make_batcher: Callable[[], Batcher[Change, Recorded]], redis: Redis) -> None:
    """Their hooks come in any order, and some find a gap that another one's hook is about to fill."""
    leaderboard.rebuild()
    batchers = [make_batcher() for _ in range(4)]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: batchers[n % 4].submit_and_wait(add(f"user{n % 5}", n + 1)), range(60)))

    assert copy_is_true(redis)


# One connection


@contextmanager
def locking(rival: BaseDatabaseWrapper) -> Iterator[None]:
    """Somebody else holds the lock on the head of the log."""
    log.head()
    with rival.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM leaderboards FOR UPDATE")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def test_a_lock_that_is_not_let_go_ends_as_an_unknown_outcome(
    rival: BaseDatabaseWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    with locking(rival), pytest.raises(OutcomeUnknown):
        writer.record([add("ann", 1)])

    assert "The database does not record changes: 55P03 LockNotAvailable" in caplog.text
    assert nothing_was_written()
    assert writer.record([add("ann", 1)]) == [Recorded(1, 1)]


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param("blocks IN ACCESS EXCLUSIVE MODE", id="read"),
        pytest.param("user_scores IN SHARE MODE", id="written"),
    ],
)
def test_so_does_one_of_another_table_which_costs_no_connection(
    lock: str, rival: BaseDatabaseWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    """An administrator's session may hold it, or a migration."""
    writer.record([add("ann", 1)])
    raw = connection.connection

    with rival.cursor() as cursor:
        cursor.execute(f"BEGIN; LOCK TABLE {lock}")
        with pytest.raises(OutcomeUnknown):
            writer.record([add("ann", 1)])
        cursor.execute("ROLLBACK")

    assert "The database does not record changes: 55P03 LockNotAvailable" in caplog.text
    assert writer.record([add("ann", 1)]) == [Recorded(2, 2)]
    assert connection.connection is raw


def test_a_connection_that_was_killed_between_two_writes_is_replaced(rival: BaseDatabaseWrapper) -> None:
    writer.record([add("ann", 1)])
    pid: int = connection.connection.info.backend_pid
    with rival.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    assert writer.record([add("ann", 1)]) == [Recorded(2, 2)]


def test_a_connection_that_is_killed_by_the_time_it_is_told_does_not_make_the_outcome_unknown(
    rival: BaseDatabaseWrapper,
) -> None:
    def kill(sender: object, **facts: Any) -> None:
        with rival.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])

    signals.scores_committed.connect(kill)
    try:
        assert writer.record([add("ann", 1)]) == [Recorded(1, 1)]
    finally:
        signals.scores_committed.disconnect(kill)

    assert writer.record([add("ann", 1)]) == [Recorded(2, 2)]


def test_a_connection_that_is_killed_within_a_write_is_replaced(
    rival: BaseDatabaseWrapper, make_batcher: Callable[[], Batcher[Change, Recorded]]
) -> None:
    batcher = make_batcher()
    with ThreadPoolExecutor(1) as pool, locking(rival):
        answer: Future[Recorded] = pool.submit(batcher.submit_and_wait, add("ann", 1))
        until(lambda: killed_who_waits() or answer.done())

        with pytest.raises(OutcomeUnknown):
            answer.result(30)

    assert nothing_was_written()
    assert batcher.submit_and_wait(add("ann", 1)) == Recorded(1, 1)


def killed_who_waits() -> bool:
    """End the connection that waits for a lock; whether there was one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchall())


def test_a_new_connection_has_the_limits_of_a_writer(board: None) -> None:
    connection.close()
    writer.record([add("ann", 1)])

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), current_setting('statement_timeout'), "
            "current_setting('idle_in_transaction_session_timeout')"
        )
        assert cursor.fetchone() == ("1900ms", "2s", "1s")


def test_a_board_that_was_emptied_starts_a_new_log(board: None) -> None:
    writer.record([add("ann", 1)])
    before = log.head()
    Leaderboard.objects.all().delete()
    ScoreEvent.objects.all().delete()

    assert writer.record([add("bob", 1)]) == [Recorded(1, 1)]
    assert log.head().origin != before.origin


def test_a_table_that_is_missing_is_no_failure_of_the_caller(rival: BaseDatabaseWrapper) -> None:
    writer.record([add("ann", 1)])
    with rival.cursor() as cursor:
        cursor.execute("ALTER TABLE blocks RENAME TO blocks_away")
    try:
        with pytest.raises(Unavailable):
            writer.record([add("ann", 1)])
    finally:
        with rival.cursor() as cursor:
            cursor.execute("ALTER TABLE blocks_away RENAME TO blocks")

    assert writer.record([add("ann", 1)]) == [Recorded(2, 2)]


FAULTS = {
    "a constraint": (
        "ALTER TABLE user_scores ADD CONSTRAINT odd CHECK (score < 1) NOT VALID",
        "ALTER TABLE user_scores DROP CONSTRAINT odd",
        "23514 CheckViolation",
    ),
    "a unique index": (
        "CREATE UNIQUE INDEX odd ON score_events ((kind || '_of_ann'))",
        "DROP INDEX odd",
        "23505 UniqueViolation",
    ),
    "an exclusion": (
        "ALTER TABLE score_events ADD CONSTRAINT odd EXCLUDE (kind WITH =)",
        "ALTER TABLE score_events DROP CONSTRAINT odd",
        "23P01 ExclusionViolation",
    ),
    "a constraint at the commit": (
        "ALTER TABLE score_events ADD CONSTRAINT odd UNIQUE (kind) DEFERRABLE INITIALLY DEFERRED",
        "ALTER TABLE score_events DROP CONSTRAINT odd",
        "23505 UniqueViolation",
    ),
    "a type": (
        "ALTER TABLE score_events ADD COLUMN odd int GENERATED ALWAYS AS ((actor || user_id || kind)::int * 0) STORED",
        "ALTER TABLE score_events DROP COLUMN odd",
        "22P02 InvalidTextRepresentation",
    ),
    "a trigger": (
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        "CREATE TRIGGER odd BEFORE INSERT ON score_events FOR EACH ROW EXECUTE FUNCTION odd()",
        "DROP TRIGGER odd ON score_events; DROP FUNCTION odd",
        "P0001 RaiseException",
    ),
    "a right": (
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE insufficient_privilege; END $$;"
        "CREATE TRIGGER odd BEFORE UPDATE ON leaderboards FOR EACH ROW EXECUTE FUNCTION odd()",
        "DROP TRIGGER odd ON leaderboards; DROP FUNCTION odd",
        "42501 InsufficientPrivilege",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_the_database_refuses_is_one_line_of_an_outage(
    name: str, rival: BaseDatabaseWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    """And shows nobody's row: PostgreSQL's details do."""
    fault, mending, kind = FAULTS[name]
    if name in ("a constraint", "a trigger", "a right"):
        writer.record([add("ann", 1)])
    with rival.cursor() as cursor:
        cursor.execute(fault)
    try:
        answers = [writer.record_batch([add("ann", 4711), add("ben", 4711)]) for _ in range(3)]
    finally:
        with rival.cursor() as cursor:
            cursor.execute(mending)

    assert {type(answer) for batch in answers for answer in batch} == {Unavailable}
    (line,) = [record.getMessage() for record in caplog.records]
    assert kind in line
    assert "4711" not in line
    assert "ann" not in line.replace("_of_ann", "")
    assert isinstance(writer.record([add("ann", 1)])[0], Recorded)


def test_a_read_after_the_server_closed_the_connection_makes_another(rival: BaseDatabaseWrapper) -> None:
    log.head()
    pid: int = connection.connection.info.backend_pid
    with rival.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    (page,) = selectors.reader.answer_questions([PageQuestion(10, 0)])
    assert page.seq == 0


def test_a_seq_that_was_set_to_the_largest_number_is_mended(board: None) -> None:
    services.correct(user_id="ann", total=10, actor="test", reason="test")
    Leaderboard.objects.update(seq=2**63 - 1)

    services.correct(user_id="ann", total=11, actor="test", reason="test")

    assert list(ScoreEvent.objects.order_by("seq").values_list("seq", "total")) == [(1, 10), (2, 11)]


def test_another_default_of_the_database_isolates_no_transaction_more(board: None) -> None:
    """Serializable, some of those that wait for each other would fail."""
    set_default = f"ALTER DATABASE {connection.settings_dict['NAME']} {{}} default_transaction_isolation"
    with connection.cursor() as cursor:
        cursor.execute(f"{set_default.format('SET')} TO 'serializable'")
    connection.close()
    try:
        with connection.cursor() as cursor, transaction.atomic():
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("read committed",)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(set_default.format("RESET"))
        connection.close()


# Its plans


def test_no_statement_reads_the_whole_log_because_it_was_planned_while_that_was_empty(board: None) -> None:
    """Or increments with keys take longer and longer until PostgreSQL analyses the log."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM score_events")  # or PostgreSQL remembers how large it was before its rows were deleted
    connection.close()  # and with it the plans
    for number in range(10):
        writer.record([add(f"user{n}", 1, f"first-{number}-{n}") for n in range(10)])
    for number in range(100):
        writer.record([add(f"user{n}", 1, f"{number}-{n}") for n in range(100)])
    before = rows_read_from("score_events")

    for number in range(10):
        writer.record([add(f"user{n}", 1, f"more-{number}-{n}") for n in range(10)])

    assert rows_read_from("score_events") - before < 10_000


def rows_read_from(table: str) -> int:
    """By scans of the whole table, in all sessions that have said so."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = %s", [table])
        (read,) = cursor.fetchone()
    return int(read)
