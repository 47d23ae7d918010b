"""Behind PgBouncer in transaction mode, where each transaction is in any of the sessions that everybody shares."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import Value

from leaderboard_site.conf.database import database_of
from scores.admin.export import CHUNK_ROWS, csv_chunks
from scores.board import LEADERBOARD
from scores.log.head import Log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.writer import Writer
from scores.models import UserScore
from scores.projection.leaderboard import Copy
from scores.projection.verification import compare
from tests.programs import needs
from tools.pooler import POOL_SIZE, Neighbours, Pooler

pytestmark = needs("pgbouncer")
WRITERS, BATCHES, USERS = 4, 25, 20


@pytest.fixture
def pooled(pooler: Pooler, board: None) -> Iterator[Log]:
    """The log of all tests, by way of the pool."""
    connections.settings["pooled"] = connection.settings_dict | database_of(
        pooler.url(connection.settings_dict["NAME"])
    )
    yield Log("leaderboard", alias="pooled")
    connections["pooled"].close()
    del connections["pooled"], connections.settings["pooled"]


def test_writers_and_neighbours_on_one_pool_do_not_notice_each_other(pooled: Log, pooler: Pooler) -> None:
    writer = Writer(pooled)

    def write(number: int) -> list[Recorded | Exception]:
        try:
            changes = [Change(Kind.INCREMENT, f"user{user}", 1, f"{number} {user}") for user in range(USERS)]
            return [outcome for _ in range(BATCHES) for outcome in writer.record(changes)]
        finally:
            pooled.connection.close()

    with Neighbours(pooler) as neighbours, ThreadPoolExecutor(WRITERS) as threads:
        outcomes = [outcome for done in threads.map(write, range(WRITERS)) for outcome in done]

    assert {type(outcome) for outcome in outcomes} == {Recorded}
    assert set(UserScore.objects.values_list("score", flat=True)) == {WRITERS}
    assert neighbours.transactions > 0
    assert neighbours.found == {("0", "0", "0")}


def test_a_rebuild_locks_out_others_and_leaves_no_lock_in_the_pool(pooled: Log, pooler: Pooler) -> None:
    with Neighbours(pooler, POOL_SIZE):
        for _ in range(5):
            with pooled.try_rebuild_lock() as acquired:
                assert acquired
                assert pooled.rebuild_under_way()
                with pooled.try_rebuild_lock() as acquired_again:
                    assert not acquired_again

            assert not pooled.rebuild_under_way()


def test_a_large_board_is_rebuilt_and_compared(pooled: Log, pooler: Pooler) -> None:
    Writer(pooled).record([Change(Kind.INCREMENT, f"user{number}", 1) for number in range(2_500)])
    copy = Copy(LEADERBOARD, pooled)

    with Neighbours(pooler, POOL_SIZE):
        assert copy.rebuild().members == 2_500
        assert compare(copy).equal


def test_the_list_of_users_is_exported(pooled: Log, pooler: Pooler) -> None:
    count = 2 * CHUNK_ROWS + 1
    UserScore.objects.bulk_create(UserScore(user_id=f"user{number}", score=1) for number in range(count))
    users: Any = UserScore.objects.using("pooled").annotate(blocked=Value(False)).order_by("user_id")

    with Neighbours(pooler, POOL_SIZE):
        lines = "".join(csv_chunks(users)).splitlines()

    assert len(lines) == 1 + count
