"""A lease, which one process holds at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError

from leaderboard_site.conf.database import database_of
from scores.log import lease as module
from scores.log.head import Log, log
from scores.log.lease import LEASE_S, Lease
from scores.models import Follower
from tests.conftest import database_url
from tests.programs import needs
from tools.pooler import POOL_SIZE, Neighbours, Pooler
from tools.servers import ROOT

EPOCH = UUID(int=7)
# Stops between the move of its position and the commit.
MOVER = """
import os, signal, sys, uuid, django
django.setup()
from django.db import transaction
from scores.log.head import log
from scores.log.lease import Lease
lease = Lease(log, sys.argv[1], is_dedicated=False)
lease.hold()
with transaction.atomic():
    assert lease.advance(uuid.UUID(int=7), 0, 5)
    os.kill(os.getpid(), signal.SIGSTOP)
"""

MakeLease = Callable[..., Lease]


@pytest.fixture
def make_lease(board: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLease]:
    """Makes holders of the same lease, each as in a process of its own. It outlasts a machine that stands still."""
    monkeypatch.setattr(module, "LEASE_S", 60.0)
    name = f"test {uuid4()}"
    yield lambda *, is_dedicated=False, log=log: Lease(log, name, is_dedicated=is_dedicated)
    Follower.objects.filter(name=name).delete()


def expire(lease: Lease, *, ago: timedelta = timedelta(milliseconds=1)) -> None:
    """As if it had not been renewed for so long."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE followers SET lease_until = clock_timestamp() - make_interval(secs => %s) WHERE name = %s",
            [ago.total_seconds(), lease.name],
        )


def hold_elsewhere(lease: Lease) -> bool:
    """For a thread, whose connection is its own."""
    try:
        return lease.hold()
    finally:
        connection.close()


def start(program: str, lease: Lease) -> subprocess.Popen[str]:
    env = os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-c", program, lease.name]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def test_one_of_many_who_ask_at_once_gets_it(make_lease: MakeLease) -> None:
    leases = [make_lease() for _ in range(8)]

    for _ in range(3):
        with ThreadPoolExecutor(len(leases)) as threads:
            answers = list(threads.map(hold_elsewhere, leases))
        assert sum(answers) == 1
        assert [lease.held for lease in leases] == answers
        leases[0].log.connection.close()
        Follower.objects.filter(name=leases[0].name).update(lease_until=None)


def test_its_holder_renews_it(make_lease: MakeLease) -> None:
    lease, other = make_lease(), make_lease()
    lease.hold()
    before = Follower.objects.get(name=lease.name).lease_until

    assert lease.hold()
    assert not other.hold()
    after = Follower.objects.get(name=lease.name).lease_until
    assert before is not None
    assert after is not None
    assert after > before


def test_another_takes_it_when_it_was_not_renewed(make_lease: MakeLease) -> None:
    lease, other = make_lease(), make_lease()
    lease.hold()
    expire(lease)

    assert other.hold()
    assert not lease.hold()
    assert not lease.held


def test_another_takes_it_when_it_was_given_up(make_lease: MakeLease) -> None:
    lease, other = make_lease(), make_lease()
    lease.hold()

    lease.release()

    assert not lease.held
    assert other.hold()


def test_a_term_is_as_long_as_nobody_else_has_it(make_lease: MakeLease) -> None:
    lease, other = make_lease(), make_lease(is_dedicated=True)
    lease.hold()
    lease.hold()
    expire(lease)
    assert lease.hold()
    assert lease.term == 1

    other.hold()
    other.release()

    assert lease.hold()
    assert lease.term == 2


def test_who_does_not_hold_it_cannot_give_it_up(make_lease: MakeLease) -> None:
    lease, other = make_lease(), make_lease()
    lease.hold()

    other.release()

    assert not other.hold()


def test_a_dedicated_process_takes_it_from_a_worker_and_no_worker_from_it(make_lease: MakeLease) -> None:
    worker, dedicated, second = make_lease(), make_lease(is_dedicated=True), make_lease(is_dedicated=True)
    worker.hold()

    assert dedicated.hold()
    assert not worker.hold()
    assert not second.hold()
    assert dedicated.hold()


def test_a_clock_that_was_put_back_does_not_keep_it_for_a_dead_holder(make_lease: MakeLease) -> None:
    lease, other = make_lease(), make_lease()
    lease.hold()
    expire(lease, ago=-timedelta(hours=1))

    assert other.hold()


def test_its_time_runs_from_before_the_renewal_was_sent(make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", LEASE_S)
    lease = make_lease()
    lease.hold()

    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT FROM followers WHERE name = %s FOR UPDATE", [lease.name])
            renewed = thread.submit(hold_elsewhere, lease)
            time.sleep(LEASE_S)
        assert not renewed.result()

    assert not lease.held


# The position


def test_a_position_moves_from_where_it_is(make_lease: MakeLease) -> None:
    lease = make_lease()
    lease.hold()

    with transaction.atomic():
        moved = [lease.advance(EPOCH, 0, 5), lease.advance(EPOCH, 0, 6), lease.advance(EPOCH, 5, 8)]

    assert moved == [True, False, True]
    assert lease.position(EPOCH) == 8


def test_in_another_epoch_a_position_begins_at_nothing(make_lease: MakeLease) -> None:
    lease, other_epoch = make_lease(), uuid4()
    lease.hold()
    with transaction.atomic():
        lease.advance(EPOCH, 0, 5)

    assert lease.position(other_epoch) == 0
    with transaction.atomic():
        assert not lease.advance(other_epoch, 5, 6)
        assert lease.advance(other_epoch, 0, 3)
    assert (lease.position(EPOCH), lease.position(other_epoch)) == (0, 3)


def test_who_lost_the_lease_moves_nothing(make_lease: MakeLease) -> None:
    lease, other = make_lease(), make_lease(is_dedicated=True)
    lease.hold()
    other.hold()

    with transaction.atomic():
        assert lease.held  # it has not asked since
        assert not lease.advance(EPOCH, 0, 5)
        assert other.advance(EPOCH, 0, 5)


def test_nobody_moves_a_position_under_a_lease_that_has_ended(make_lease: MakeLease) -> None:
    lease = make_lease()
    lease.hold()
    expire(lease)

    with transaction.atomic():
        assert not lease.advance(EPOCH, 0, 5)


def test_a_position_is_undone_with_the_work_that_it_counts(make_lease: MakeLease) -> None:
    lease = make_lease()
    lease.hold()

    with transaction.atomic():
        lease.advance(EPOCH, 0, 5)
        transaction.set_rollback(True)

    assert lease.position(EPOCH) == 0
    with pytest.raises(TransactionManagementError):
        lease.advance(EPOCH, 0, 5)


def test_a_process_that_stops_while_it_moves_its_position_does_not_keep_the_lease(make_lease: MakeLease) -> None:
    other = make_lease(is_dedicated=True)
    with start(MOVER, other) as mover:
        try:
            os.waitid(os.P_PID, mover.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

            assert other.hold()

            assert other.position(EPOCH) == 0
        finally:
            mover.kill()


# Behind a pooler


@needs("pgbouncer")
def test_behind_a_pooler_one_holds_it_and_nothing_of_it_stays_in_a_session(
    make_lease: MakeLease, pooler: Pooler
) -> None:
    connections.settings["pooled"] = connection.settings_dict | database_of(
        pooler.url(connection.settings_dict["NAME"])
    )
    pooled = Log("leaderboard", alias="pooled")
    leases = [make_lease(log=pooled) for _ in range(3)]
    try:
        with Neighbours(pooler, POOL_SIZE) as neighbours:
            for number, holder in enumerate(leases):
                assert [lease.hold() for lease in leases] == [lease is holder for lease in leases]
                with transaction.atomic(using="pooled"):
                    assert holder.advance(EPOCH, number, number + 1)
                holder.release()
                expected = leases[number + 1 :][:1]
                assert [lease.hold() for lease in expected] == [True] * len(expected)
    finally:
        connections["pooled"].close()
        del connections["pooled"], connections.settings["pooled"]
    assert neighbours.found <= {("0", "0", "0")}
