"""Events that a later version wrote beside this one: they move the log's end, and nothing else."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from redis import Redis

from scores.log.head import log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.rank_index import RankIndexer
from scores.log.writer import writer
from scores.models import ScoreEvent
from scores.projection.leaderboard import leaderboard
from scores.projection.tail import Tail
from scores.projection.verification import compare
from tests.scores.admin.test_admin import logged_in
from tests.scores.conftest import copy_is_true, hooks_lost

UNKNOWN = "unheard-of"


@pytest.fixture
def later(copy: Redis) -> Redis:
    """A later version wrote an event for a player of the board and one for somebody who never was on it."""
    writer.record([Change(Kind.INCREMENT, "ann", 10), Change(Kind.INCREMENT, "bob", 20)])
    write_unknown("ann", "new")
    return copy


def write_unknown(*user_ids: str) -> None:
    """As a later version does: the events and the head in one transaction, and no word of it to this version."""
    with connection.cursor() as cursor:
        for user_id in user_ids:
            cursor.execute(
                "WITH head AS (UPDATE leaderboards SET seq = seq + 1 RETURNING seq) "
                "INSERT INTO score_events (seq, user_id, kind, points, total, created_at) "
                "SELECT seq, %s, %s, 83211, 83211, now() FROM head",
                [user_id, UNKNOWN],
            )


def test_the_tail_skips_them_and_the_copy_is_true(later: Redis) -> None:
    tail = Tail(leaderboard)

    tail.check()
    tail.check()

    assert copy_is_true(later)
    assert later.zrange("leaderboard", 0, -1, withscores=True) == [(b"ann", 10.0), (b"bob", 20.0)]


def test_the_hook_of_a_commit_that_follows_skips_them_too(later: Redis) -> None:
    assert writer.record([Change(Kind.INCREMENT, "ann", 5)]) == [Recorded(5, 15)]

    assert copy_is_true(later)


def test_a_catch_up_that_begins_or_ends_with_one_is_whole(later: Redis) -> None:
    with hooks_lost():
        writer.record([Change(Kind.INCREMENT, "bob", 5)])
        write_unknown("bob")

    assert leaderboard.catch_up(log.head())

    assert copy_is_true(later)


def test_the_comparison_finds_nothing_wrong_and_compares_their_users(later: Redis) -> None:
    leaderboard.catch_up(log.head())
    assert compare(leaderboard).equal

    later.zadd("leaderboard", {"ann": 11})
    write_unknown("ann")

    assert [difference.user_id for difference in compare(leaderboard).differences] == ["ann"]


def test_the_rank_index_moves_past_them(later: Redis) -> None:
    indexer = RankIndexer(log, segment_rows=1)
    indexer.build()
    before = indexer._moved_to(log.head())
    write_unknown("ann", "bob", "new")

    after = indexer._moved_to(log.head())

    assert before is not None
    assert after == before._replace(seq=log.head().seq)


def test_the_admin_shows_them_as_what_they_are_and_draws_no_score_of_them(later: Redis) -> None:
    client = logged_in(User.objects.create_superuser("admin"))

    events = client.get("/admin/scores/scoreevent/")
    event = client.get(f"/admin/scores/scoreevent/{ScoreEvent.objects.get(user='new').seq}/change/")
    player = client.get("/admin/scores/userscore/ann/change/")

    assert (events.status_code, event.status_code, player.status_code) == (200, 200, 200)
    assert UNKNOWN in events.content.decode()
    assert "83" not in player.content.decode().partition("<svg")[2].partition("</svg>")[0]
