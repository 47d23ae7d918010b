"""A period closes once: its results, its rewards and its message."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from django.db import connection, connections
from django.db.models import F
from redis import Redis

from scores.board import LEADERBOARD
from scores.board_selectors import BoardPage, BoardReader, PageOf
from scores.boards import definitions
from scores.boards.catalogue import Catalogue
from scores.boards.closing import Closer
from scores.boards.copies import BoardCopies
from scores.boards.documents import document, parse
from scores.boards.follower import BoardFollower
from scores.exceptions import BoardInvalid
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.periods import roll_over_if_due
from scores.log.writer import writer
from scores.models import Board, BoardResult, BoardStanding, Leaderboard, Period, ScoreEvent, UserScore, WebhookDelivery
from scores.projection.tail import tail
from scores.selectors import Source
from tests.conftest import TokenFor
from tests.polling import until

SECRET = "sixteen characters"


@pytest.fixture
def follower(redis: Redis) -> BoardFollower:
    return BoardFollower(log, BoardCopies(LEADERBOARD))


@pytest.fixture
def closer() -> Closer:
    return Closer(log, writer)


def make(name: str, **fields: Any) -> Board:
    """A board with a season that is open, from an hour ago."""
    now = datetime.now(UTC)
    season = {"startsAt": (now - timedelta(hours=1)).isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
    given = {"name": name, "fold": "sum", "period": "season", "seasons": [season], "settleSeconds": 0}
    return definitions.create(parse(given | fields))


def forever(name: str, **fields: Any) -> Board:
    return definitions.create(parse({"name": name, "fold": "sum"} | fields))


def end(board: Board) -> None:
    """As if its time had come: the end of the open period is a moment ago, and after the board was made."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE periods SET ends_at = clock_timestamp() WHERE board_id = %s", [board.id])
        cursor.execute(
            "UPDATE leaderboards SET next_boundary = (SELECT min(ends_at) FROM periods WHERE last_seq IS NULL)"
        )
    assert roll_over_if_due(log)


def add(user_id: str, points: int, **fields: Any) -> int:
    (outcome,) = writer.record([Change(Kind.INCREMENT, user_id, points, **fields)])
    assert not isinstance(outcome, Exception), outcome
    return outcome.seq


def record(kind: Kind, user_id: str = "", **fields: Any) -> None:
    (outcome,) = writer.record([Change(kind, user_id, actor="moderator", **fields)])
    assert not isinstance(outcome, Exception), outcome


def settle(follower: BoardFollower, closer: Closer) -> None:
    """Until nothing is left to do."""

    def is_settled() -> bool:
        if (
            any([closer.close(), follower.build(), follower.project(), follower.tend(), follower.fold()])
            or closer.close()
        ):
            return False
        return not BoardResult.objects.filter(reward__gt=0, reward_seq=None, refusal="").exists()

    until(is_settled)


def results(board: Board) -> list[tuple[int, str, int]]:
    rows = BoardResult.objects.filter(board=board).order_by("place")
    return list(rows.values_list("place", "user_id", "score"))


def standing(board: Board) -> dict[str, int]:
    return dict(BoardStanding.objects.filter(board=board, hidden=False).values_list("user_id", "key"))


def total(user_id: str) -> int:
    return UserScore.objects.get(user_id=user_id).score


def is_closed(board: Board) -> bool:
    return Period.objects.get(board=board).closed_at is not None


def test_results_are_in_the_order_of_the_board(follower: BoardFollower, closer: Closer) -> None:
    board = make("week")
    for user, points in (("ann", 3), ("bob", 5), ("cyd", 3)):
        add(user, points)
    settle(follower, closer)
    assert not is_closed(board)
    end(board)
    add("dan", 9)  # too late
    settle(follower, closer)
    assert results(board) == [(1, "bob", 5), (2, "ann", 3), (3, "cyd", 3)]
    assert not WebhookDelivery.objects.exists()


def test_lower_is_better_and_scores_keep_their_sign(follower: BoardFollower, closer: Closer) -> None:
    board = make("laps", fold="best", order="lower", stream=True)
    for user, score in (("ann", 83), ("bob", 79)):
        writer.record([Change(Kind.SCORE, user, score, stream="laps")])
    end(board)
    settle(follower, closer)
    assert results(board) == [(1, "bob", 79), (2, "ann", 83)]


def test_nothing_closes_before_the_standings_are_there(follower: BoardFollower, closer: Closer) -> None:
    board = make("week")
    settle(follower, closer)
    add("ann", 3)
    end(board)
    assert not closer.close()
    assert not is_closed(board)
    settle(follower, closer)
    assert results(board) == [(1, "ann", 3)]


def test_an_empty_period_closes(follower: BoardFollower, closer: Closer) -> None:
    board = make("week", rewards={"1": 5})
    end(board)
    settle(follower, closer)
    assert is_closed(board)
    assert results(board) == []


def test_a_void_counts_while_the_period_settles_and_not_later(follower: BoardFollower, closer: Closer) -> None:
    board = make("week", settleSeconds=3600)
    seqs = {user: add(user, points) for user, points in (("ann", 5), ("bob", 3), ("cyd", 1))}
    end(board)
    settle(follower, closer)
    assert not is_closed(board)
    record(Kind.VOID, voids=seqs["ann"])
    definitions.change("week", {"settleSeconds": 0})
    settle(follower, closer)
    assert results(board) == [(1, "bob", 3), (2, "cyd", 1)]
    record(Kind.VOID, voids=seqs["bob"])
    settle(follower, closer)
    assert standing(board) == {"cyd": 1}
    assert results(board) == [(1, "bob", 3), (2, "cyd", 1)]


def test_the_results_have_the_voids_that_the_standings_lack_when_the_time_comes(
    follower: BoardFollower, closer: Closer
) -> None:
    board = make("week")
    seq = add("ann", 5)
    add("bob", 3)
    end(board)
    follower.tend()
    follower.build()
    follower.project()
    record(Kind.VOID, voids=seq)  # the standings are past the end of the period, and have not heard of this
    assert not closer.close()
    settle(follower, closer)
    assert results(board) == [(1, "bob", 3)]


def test_rewards_are_given_once_by_place(follower: BoardFollower, closer: Closer) -> None:
    board = make("week", rewards={"1": 500, "2-3": 50})
    for user, points in (("ann", 4), ("bob", 3), ("cyd", 2), ("dan", 1)):
        add(user, points)
    end(board)
    settle(follower, closer)
    settle(follower, Closer(log, writer))
    assert [total(user) for user in ("ann", "bob", "cyd", "dan")] == [504, 53, 52, 1]
    event = ScoreEvent.objects.get(user_id="ann", points=500)
    assert (event.actor, event.idempotency_key) == ("service:board week", f"reward {board.id} 1")
    assert BoardResult.objects.get(board=board, place=1).reward_seq == event.seq


def test_who_dies_between_the_event_and_its_note_gives_nothing_twice(follower: BoardFollower, closer: Closer) -> None:
    board = make("week", rewards={"1": 500})
    add("ann", 4)
    end(board)
    settle(follower, closer)
    seq = BoardResult.objects.get(board=board).reward_seq
    BoardResult.objects.update(reward_seq=None)  # the transaction with the note was lost
    settle(follower, Closer(log, writer))
    assert BoardResult.objects.get(board=board).reward_seq == seq
    assert total("ann") == 504


def test_two_followers_at_once_close_once(follower: BoardFollower) -> None:
    board = make("week", rewards={"1-20": 7}, webhookUrl="https://example.org/", webhookSecret=SECRET)
    for n in range(20):
        add(f"u{n}", n + 1)
    end(board)
    for _ in range(3):
        follower.tend()
        follower.build()
        follower.project()
    barrier = threading.Barrier(2)
    errors: list[BaseException] = []

    def close() -> None:
        try:
            closer = Closer(log, writer)
            barrier.wait()
            while closer.close():
                pass
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    settle(follower, Closer(log, writer))  # what a busy machine did not confirm in time
    assert BoardResult.objects.filter(board=board).count() == 20
    assert WebhookDelivery.objects.count() == 1
    assert [total(f"u{n}") for n in range(20)] == [n + 8 for n in range(20)]


def test_a_blocked_winner_gets_no_reward_and_the_result_says_so(follower: BoardFollower, closer: Closer) -> None:
    board = make("week", rewards={"1": 500, "2": 5})
    add("ann", 4)
    add("bob", 3)
    end(board)
    for _ in range(3):
        follower.tend()
        follower.build()
        follower.project()
    with_no_writer = Closer(log, writer)
    with_no_writer._reward = lambda: False  # type: ignore[method-assign]
    with_no_writer.close()
    record(Kind.BLOCK, "ann")
    settle(follower, closer)
    assert results(board) == [(1, "ann", 4), (2, "bob", 3)]
    ann, bob = BoardResult.objects.filter(board=board).order_by("place")
    assert (ann.reward_seq, ann.refusal) == (None, "user_blocked")
    assert bob.reward_seq is not None
    assert total("ann") == 4


def test_no_board_counts_its_own_rewards_and_others_do(follower: BoardFollower, closer: Closer) -> None:
    own = forever("own", rewards={"1": 500})
    other, best = forever("other"), forever("best", fold="best")
    add("ann", 4)
    settle(follower, closer)
    reward = Change(Kind.INCREMENT, "ann", 500, idempotency_key=f"reward {own.id} 1", actor="service:board own")
    writer.record([reward])
    add("ann", 2)
    settle(follower, closer)
    assert [standing(board) for board in (own, other, best)] == [{"ann": 6}, {"ann": 506}, {"ann": 500}]
    reader = BoardReader(Catalogue(log), BoardCopies(LEADERBOARD), tail, log)
    answers = reader.answer([PageOf(name, "current", 10, 0) for name in ("own", "other", "best")])
    assert [(page.source, page.entries[0].key) for page in answers if isinstance(page, BoardPage)] == [
        (Source.REDIS, 6),
        (Source.REDIS, 506),
        (Source.REDIS, 500),
    ]
    # And built from the whole log, it is the same.
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM board_positions")
    settle(follower, closer)
    assert [standing(board) for board in (own, other, best)] == [{"ann": 6}, {"ann": 506}, {"ann": 500}]
    assert total("ann") == 506


def test_an_archived_board_closes_its_last_period(follower: BoardFollower, closer: Closer) -> None:
    board = forever("all-time", settleSeconds=0)
    add("ann", 4)
    definitions.archive("all-time")
    settle(follower, closer)
    assert results(board) == [(1, "ann", 4)]


def test_a_board_that_is_made_archived_rewards_nobody(follower: BoardFollower, closer: Closer) -> None:
    add("ann", 4)
    board = forever("all-time", archived=True, rewards={"1": 5}, settleSeconds=0)
    settle(follower, closer)
    assert results(board) == [(1, "ann", 4)]
    assert total("ann") == 4


def test_periods_from_before_the_board_reward_nobody_and_tell_nobody(follower: BoardFollower, closer: Closer) -> None:
    add("ann", 4)
    now = datetime.now(UTC)
    span = [(now - timedelta(hours=2)).isoformat(), (now + timedelta(hours=1)).isoformat()]
    board = make(
        "week",
        seasons=[{"startsAt": span[0], "endsAt": span[1]}],
        rewards={"1": 5},
        webhookUrl="https://example.org/",
        webhookSecret=SECRET,
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE boards SET created_at = clock_timestamp() + interval '1 minute'")
    end(board)
    settle(follower, closer)
    assert results(board) == [(1, "ann", 4)]
    assert total("ann") == 4
    assert not WebhookDelivery.objects.exists()


def test_the_results_go_with_a_period_that_is_no_longer_kept(follower: BoardFollower, closer: Closer) -> None:
    board = definitions.create(parse({"name": "hour", "fold": "sum", "period": "hourly", "keep": 0}))
    add("ann", 4)
    Leaderboard.objects.update(at=F("next_boundary"))
    add("ann", 4)
    ended = Period.objects.filter(board=board, number=1)
    for _ in range(3):
        follower.build()
        follower.project()
        follower.tend()
    assert ended.exists()  # it waits for its close

    Leaderboard.objects.update(at=F("at") + timedelta(minutes=11))
    settle(follower, closer)

    assert not ended.exists()
    assert not BoardResult.objects.exists()


def test_a_board_that_is_deleted_takes_its_results_along(follower: BoardFollower, closer: Closer) -> None:
    board = make("week", webhookUrl="https://example.org/", webhookSecret=SECRET)
    add("ann", 4)
    end(board)
    settle(follower, closer)
    definitions.delete("week")
    assert not BoardResult.objects.exists()
    assert not WebhookDelivery.objects.exists()


# Definitions


def test_a_secret_is_written_and_never_read(board: None) -> None:
    made = make("week", webhookUrl="https://example.org/hook", webhookSecret=SECRET, rewards={"10": 5, "2-3": 7})
    told = document(definitions.definition_of(made))
    assert told["webhookUrl"] == "https://example.org/hook"
    assert list(told["rewards"]) == ["2-3", "10"]
    assert "webhookSecret" not in told
    assert SECRET not in repr(definitions.definition_of(made))
    definitions.change("week", {"title": "Week"})
    definitions.apply("week", {field: value for field, value in told.items() if field != "name"})
    assert not definitions.apply("week", {k: v for k, v in told.items() if k != "name"}).is_different
    assert Board.objects.get(name="week").webhook_secret == SECRET
    with pytest.raises(BoardInvalid):
        definitions.change("week", {"webhookSecret": None})


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"rewards": {"0": 5}}, "rewards"),
        ({"rewards": {"3-1": 5}}, "rewards"),
        ({"rewards": {"1001": 5}}, "rewards"),
        ({"rewards": {"1-3": 5, "2": 6}}, "rewards"),
        ({"rewards": {"1": 0}}, "rewards"),
        ({"rewards": {"1": True}}, "rewards"),
        ({"rewards": [5]}, "rewards"),
        ({"settleSeconds": -1}, "settleSeconds"),
        ({"webhookUrl": "https://example.org/"}, "webhookSecret"),
        ({"webhookUrl": "https://example.org/", "webhookSecret": "short"}, "webhookSecret"),
        ({"webhookUrl": "http://example.org/", "webhookSecret": SECRET}, "webhookUrl"),
        ({"webhookUrl": "https://a:b@example.org/", "webhookSecret": SECRET}, "webhookUrl"),
        ({"webhookUrl": "https://[::1/", "webhookSecret": SECRET}, "webhookUrl"),
        ({"webhookUrl": "https://", "webhookSecret": SECRET}, "webhookUrl"),
        ({"webhookUrl": "https://example.org:99999/", "webhookSecret": SECRET}, "webhookUrl"),
        ({"webhookUrl": "https://example.org/a\r\nb: c", "webhookSecret": SECRET}, "webhookUrl"),
    ],
)
def test_what_a_close_cannot_be(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(BoardInvalid) as error:
        parse({"name": "week", "fold": "sum"} | fields)
    assert [mistake.field for mistake in error.value.mistakes] == [wrong]


def test_all_that_is_wrong_with_rewards_is_told() -> None:
    rewards = {"0": 5, "1-3": 5, "2": 0, "3-1": True, "\ud800": 5}

    with pytest.raises(BoardInvalid) as error:
        parse({"name": "week", "fold": "sum", "rewards": rewards})

    assert [(mistake.code, mistake.sentence.partition(" ")[0]) for mistake in error.value.mistakes] == [
        ("invalid", "0:"),
        ("overlapping", "2"),
        ("out_of_range", "2:"),
        ("invalid", "3-1:"),
        ("out_of_range", "3-1:"),
        ("invalid", "?:"),
    ]


# Over HTTP


def test_results_over_http(follower: BoardFollower, closer: Closer, api: httpx.Client) -> None:
    board = make("week", rewards={"1": 500})
    add("ann", 4)
    add("bob", 3)
    early = api.get("/boards/week/results?period=1")
    assert (early.status_code, early.json()["code"]) == (404, "period_not_closed")
    end(board)
    settle(follower, closer)
    answer = api.get("/boards/week/results?period=1")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["closedAt"]
    head = log.head()
    assert answer.headers["X-Leaderboard-Position"] == f"{head.origin}.{head.seq}"
    assert (body["board"], body["period"]) == ("week", 1)
    assert body["results"] == [
        {"place": 1, "userId": "ann", "score": 4, "reward": 500},
        {"place": 2, "userId": "bob", "score": 3},
    ]
    assert api.get("/boards/week/periods").json()["periods"][0]["closedAt"] == body["closedAt"]
    assert api.get("/boards/nope/results").status_code == 404
    assert api.get("/boards/week/results?period=x").json()["code"] == "period_invalid"
    assert api.get("/boards/leaderboard/results?period=1").json()["code"] == "period_not_closed"


def test_results_of_a_private_board_stay_out_of_shared_caches(
    follower: BoardFollower, closer: Closer, api: httpx.Client, token_for: TokenFor
) -> None:
    board = make("secret", isPublic=False)
    end(board)
    settle(follower, closer)

    refused = api.get("/boards/secret/results?period=1")
    seen = api.get("/boards/secret/results?period=1", headers={"Authorization": f"Bearer {token_for('ann')}"})

    assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
    assert (seen.status_code, seen.headers["Cache-Control"]) == (200, "private, no-cache")
