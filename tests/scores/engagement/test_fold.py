"""The rollup is exactly a fold of the log: slice by slice, by two at once, after a kill, and in another log."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from scores.engagement import fold as fold_module
from scores.engagement.fold import EngagementFold
from scores.followers import engagement_tasks
from scores.log.head import log
from scores.log.lease import Lease
from scores.models import EngagementPosition
from tests.conftest import database_url
from tests.polling import until
from tests.scores.conftest import by_another_thread
from tools.servers import ROOT

from .history import History, begin_again, oracle, rollup


@pytest.fixture
def fold(board: None) -> EngagementFold:
    return EngagementFold(log)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a few events."""
    monkeypatch.setattr(fold_module, "EVENTS_PER_FOLD", 7)


TERMINATE_SQL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'relation'
"""


def settle(fold: EngagementFold) -> None:
    while fold.behind():
        fold.fold()


@pytest.mark.parametrize("seed", range(3))
def test_the_rollup_is_what_sql_says_of_the_log(seed: int, board: None, monkeypatch: pytest.MonkeyPatch) -> None:
    history, chance = History(seed), random.Random(seed)
    folds = [EngagementFold(log), EngagementFold(log)]
    for _ in range(5):
        history.go_on(100)
        for _ in range(6):
            monkeypatch.setattr(fold_module, "EVENTS_PER_FOLD", chance.randint(1, 30))
            chance.choice(folds).fold()
    monkeypatch.setattr(fold_module, "EVENTS_PER_FOLD", 500)
    settle(folds[0])

    found = rollup()

    assert all(found.values())
    assert found == oracle()


def test_the_command_forgets_it_and_counts_again(fold: EngagementFold) -> None:
    History(4).go_on(300)
    settle(fold)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE engagement_days SET players = players + 1")
        cursor.execute("DELETE FROM engagement_players WHERE user_id > 'player 2'")
    assert rollup() != oracle()

    out = StringIO()
    call_command("rebuild_engagement", stdout=out, stderr=StringIO())

    assert "Counted 300 events" in out.getvalue()
    assert rollup() == oracle()


def test_whoever_comes_second_moves_nothing(fold: EngagementFold) -> None:
    History(5).go_on(50)
    fold.fold()
    view = fold._look()
    assert view is not None
    settle(fold)

    fold._move(view, view.head)
    fold._begin(view)

    assert rollup() == oracle()


def test_two_at_once_count_nothing_twice(fold: EngagementFold, small: None) -> None:
    History(6).go_on(150)
    others = [threading.Thread(target=by_another_thread, args=[lambda: settle(EngagementFold(log))]) for _ in range(2)]
    for other in others:
        other.start()
    settle(fold)
    for other in others:
        other.join()

    assert rollup() == oracle()


def test_a_transaction_that_is_ended_before_its_commit_counts_nothing(
    fold: EngagementFold, rival: BaseDatabaseWrapper
) -> None:
    History(7).go_on(50)
    fold.fold()
    failed: list[Exception] = []

    def attempt() -> None:
        try:
            fold.fold()
        except OperationalError as error:
            failed.append(error)

    def is_ended() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(TERMINATE_SQL)
            return bool(cursor.rowcount)

    rival.set_autocommit(False)
    with rival.cursor() as locking:
        locking.execute("LOCK TABLE engagement_players IN EXCLUSIVE MODE")  # the last table that a fold writes
        thread = threading.Thread(target=by_another_thread, args=[attempt])
        thread.start()
        until(is_ended)
        thread.join()
    rival.rollback()
    assert "terminating connection" in str(failed[0])
    assert not any(rollup().values())

    settle(fold)

    assert rollup() == oracle()


@pytest.mark.parametrize("keep", [0, 120])
def test_a_database_that_was_put_back_is_counted_anew(keep: int, fold: EngagementFold) -> None:
    history = History(8)
    history.go_on(200)
    settle(fold)

    begin_again(keep=keep)
    history.voidable.clear()  # some of them are gone
    history.go_on(150)
    settle(fold)

    assert log.head().seq > 200 or keep == 0
    assert rollup() == oracle()
    assert str(EngagementPosition.objects.get().epoch)[:8] == log.head().origin[:8]


def test_a_new_epoch_of_the_same_events_goes_on(fold: EngagementFold) -> None:
    history = History(9)
    history.go_on(100)
    settle(fold)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE engagement_days SET players = players + 1000")

    log.begin_epoch(log.head().origin)
    fold.fold()
    history.go_on(5)
    settle(fold)

    assert EngagementPosition.objects.get().seq == 105
    assert str(EngagementPosition.objects.get().epoch)[:8] == log.head().origin[:8]
    assert all(players > 1000 for _, players, _ in rollup()["engagement_days"][:-1])


def test_no_event_is_no_fault(fold: EngagementFold) -> None:
    assert fold.fold() is False  # there is not even a log

    log.head()
    settle(fold)
    fold.fold()
    fold.fold()

    assert EngagementPosition.objects.get().seq == 0


def test_the_follower_has_tasks_for_it(board: None) -> None:
    tasks = engagement_tasks(Lease(log, "engagement", is_dedicated=False))

    assert [task.name for task in tasks] == ["fold of engagement", "samples of sockets"]


# Children that fold are killed one after the other, each at another moment, until nothing is left to do.
KILLED_UNTIL_DONE = """
import os, random, signal, sys, time
import django
django.setup()
from scores.engagement import fold
from scores.log.head import log
chance = random.Random(1)
fold.EVENTS_PER_FOLD = 5
for attempt in range(1, 200):
    if not (child := os.fork()):
        folding = fold.EngagementFold(log)
        while folding.behind():
            folding.fold()
        os._exit(0)
    time.sleep(chance.uniform(0.03, 0.15) * (1 + attempt / 20))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status != signal.SIGKILL:
        print(attempt, status)
        break
"""


def test_a_process_that_is_killed_anywhere_loses_and_doubles_nothing(board: None) -> None:
    history = History(10)
    history.go_on(300)
    env = os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED_UNTIL_DONE], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    history.go_on(300)
    attempts, status = map(int, killed.communicate()[0].split())
    settle(EngagementFold(log))

    assert (attempts > 1, status) == (True, 0)
    assert EngagementPosition.objects.get().seq == 600
    assert rollup() == oracle()
