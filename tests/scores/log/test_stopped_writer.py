"""A process that stops while it holds the log's head: the others' increments go on without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from scores.log.head import log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.writer import TRANSACTION_TIMEOUT_SINCE, writer
from scores.models import UserScore
from tests.conftest import database_url
from tests.polling import until
from tools.servers import ROOT

# Deciding many changes is what makes the time between the lock and the writes long enough to be hit.
WORKER = """
import django, sys
django.setup()
from scores.log import writer as module
module.TRANSACTION_TIMEOUT_SINCE = int(sys.argv[1])
from scores.exceptions import OutcomeUnknown
from scores.log.ledger import Change, Kind
while True:
    try:
        changes = [Change(Kind.INCREMENT, f"worker{number}", 1) for number in range(module.MAX_PER_TRANSACTION)]
        module.writer.record(changes)
    except OutcomeUnknown:
        pass
"""


# The scrub takes the lock when it repairs members.
SCRUB = """
import os, signal, django
django.setup()
from django.db import transaction
from scores.log.head import log
with transaction.atomic():
    log.locked_head()
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def environment() -> dict[str, str]:
    return os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "leaderboard_site.settings"}


@pytest.fixture
def make_worker(board: None) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Makes a process that records one full batch after the other."""
    workers: list[subprocess.Popen[bytes]] = []

    def make(*, transaction_timeout_since: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WORKER, str(transaction_timeout_since)]
        workers.append(subprocess.Popen(command, cwd=ROOT, env=environment() | {"PGAPPNAME": "worker"}))
        until(lambda: log.head().seq > 0)
        return workers[-1]

    yield make
    for worker in workers:
        worker.kill()
        worker.wait()


def test_a_worker_that_stops_while_it_decides_does_not_hold_up_the_others(
    make_worker: Callable[..., subprocess.Popen[bytes]], rival: BaseDatabaseWrapper
) -> None:
    """On every PostgreSQL: the session is idle in its transaction, for which the server has patience for a second."""
    worker = make_worker(transaction_timeout_since=10**9)
    stop_while_it_holds_the_lock(worker, rival, state="idle in transaction")

    others_go_on_and_nothing_is_torn(worker)


def test_a_worker_that_stops_anywhere_does_not_hold_up_the_others(
    make_worker: Callable[..., subprocess.Popen[bytes]], rival: BaseDatabaseWrapper
) -> None:
    """Between two statements of one round trip as well, where PostgreSQL has `transaction_timeout`."""
    if connection.connection.info.server_version < TRANSACTION_TIMEOUT_SINCE:
        pytest.skip("PostgreSQL has no transaction_timeout before 17")
    worker = make_worker(transaction_timeout_since=TRANSACTION_TIMEOUT_SINCE)
    stop_while_it_holds_the_lock(worker, rival, state="active")

    others_go_on_and_nothing_is_torn(worker)


def test_a_scrub_that_stops_while_it_repairs_does_not_hold_up_the_writers(board: None) -> None:
    log.head()
    with subprocess.Popen([sys.executable, "-c", SCRUB], cwd=ROOT, env=environment()) as scrub:
        try:
            os.waitid(os.P_PID, scrub.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

            assert writer.record([Change(Kind.INCREMENT, "ann", 1)]) == [Recorded(1, 1)]
        finally:
            scrub.kill()


def others_go_on_and_nothing_is_torn(worker: subprocess.Popen[bytes]) -> None:
    assert isinstance(writer.record([Change(Kind.INCREMENT, "ann", 1)])[0], Recorded)

    before = log.head().seq
    worker.send_signal(signal.SIGCONT)
    until(lambda: log.head().seq > before)
    worker.kill()
    worker.wait()
    totals = UserScore.objects.exclude(user_id="ann").values_list("score", flat=True).distinct()
    assert len(totals) == 1, "a part of the interrupted batch was counted"


def stop_while_it_holds_the_lock(worker: subprocess.Popen[bytes], rival: BaseDatabaseWrapper, *, state: str) -> None:
    """Stop it in a transaction that then stays open, with its session in this `state` of pg_stat_activity."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
        # The state first, which is a quick look: on a busy machine the worker is seldom met in the rarer one.
        if (
            state_of_open_transaction(rival) == state
            and stays_locked(rival)
            and state_of_open_transaction(rival) == state
        ):
            return
        worker.send_signal(signal.SIGCONT)
        time.sleep(0.005)
    raise AssertionError("the worker was never met at such a moment")


def stays_locked(rival: BaseDatabaseWrapper, seconds: float = 0.1) -> bool:
    """Whether the head stays locked for so long: a commit that was on its way has ended by then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with rival.cursor() as cursor:
                cursor.execute("SELECT FROM leaderboards FOR UPDATE NOWAIT")
            return False
        except OperationalError as error:
            if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise
            time.sleep(0.005)
    return True


def state_of_open_transaction(rival: BaseDatabaseWrapper) -> str | None:
    with rival.cursor() as cursor:
        cursor.execute(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'worker' AND xact_start IS NOT NULL"
        )
        row = cursor.fetchone()
        return str(row[0]) if row else None
