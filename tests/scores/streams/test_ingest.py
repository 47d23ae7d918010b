"""Messages of a broker become events of the log, each entry once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection

from scores import services
from scores.exceptions import ActionCoolingDown, OutcomeUnknown
from scores.log.ledger import Change
from scores.log.writer import writer
from scores.models import Action, Board, QueuedRefusal, ScoreEvent, UserScore
from scores.streams import refusals
from scores.streams.rabbitmq import FEWEST
from scores.streams.refusals import Refusal
from tests.polling import until

from .conftest import Send

Start = Callable[..., Any]
DeadLetters = Callable[[int], list[tuple[Any, str]]]


def entry(user_id: str, points: object, key: object) -> dict[str, Any]:
    return {"userId": user_id, "points": points, "key": key}


def totals() -> dict[str, int]:
    return dict(UserScore.objects.values_list("user_id", "score"))


class Held:
    """`writer.record` that, once it has begun, waits until it may go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, changes: Sequence[Change]) -> Any:
        self.begun.set()
        assert self.go_on.wait(30)
        return writer.record(changes)


def test_messages_of_one_and_of_many_entries_are_recorded(send: Send, ingest: Start) -> None:
    Board.objects.create(name="laps", fold="best", order="lower", stream="laps")
    lap = {"userId": "ann", "board": "laps", "score": 83211, "metadata": {"car": 1}, "key": "lap"}
    send(entry("ann", 3, "a"), [entry("bob", 4, "b"), entry("ann", 5, "c") | {"actor": "arena"}], [lap])

    ingest()

    until(lambda: ScoreEvent.objects.count() == 4)
    assert totals() == {"ann": 8, "bob": 4}
    assert list(ScoreEvent.objects.order_by("seq").values_list("user_id", "actor", "idempotency_key")) == [
        ("ann", "service:broker", "a"),
        ("bob", "service:broker", "b"),
        ("ann", "service:arena", "c"),
        ("ann", "service:broker", "lap"),
    ]


def test_what_comes_twice_counts_once(send: Send, ingest: Start, dead_letters: DeadLetters) -> None:
    send(entry("ann", 3, "a"), entry("ann", 3, "a"), [entry("ann", 3, "a"), entry("bob", 1, "a")])
    send(entry("ann", 4, "a"))

    ingest()

    assert dead_letters(1) == [(entry("ann", 4, "a"), "idempotency_key_reused")]
    assert totals() == {"ann": 3, "bob": 1}


def test_more_entries_than_a_batch_are_several_transactions(send: Send, ingest: Start) -> None:
    sizes: list[int] = []

    def record(changes: Sequence[Change]) -> Any:
        sizes.append(len(changes))
        return writer.record(changes)

    send(*[[entry(f"user-{n}", 1, f"{m}-{n}") for n in range(25)] for m in range(8)])
    send(*[entry("ann", 1, f"one-{n}") for n in range(30)])

    ingest(batch=10, record=record)

    until(lambda: ScoreEvent.objects.count() == 230)
    assert max(sizes) <= 10
    assert totals() == {f"user-{n}": 8 for n in range(25)} | {"ann": 30}


BAD: list[tuple[bytes, str]] = [
    (b"", "invalid_json"),
    (b"no json", "invalid_json"),
    (b"\xff\xfe", "invalid_utf8"),
    (b"\xef\xbb\xbf{}", "byte_order_mark"),
    (b"[" * 5_000, "json_too_deep"),
    (b'{"userId":' * 400 + b"1" + b"}" * 400, "json_too_deep"),
    (b"[]", "entries_out_of_range"),
    (b"[" + b",".join([b"1"] * 1_001) + b"]", "entries_out_of_range"),
    (b" " * (256 * 1024 + 1), "message_too_large"),
    (b"7", "invalid_body"),
    (b"null", "invalid_body"),
    (b"{}", "user_id_invalid"),
    (b'{"userId":"ann","points":1}', "key_required"),
    (b'{"userId":"ann","points":1,"key":1}', "idempotency_key_invalid"),
    (b'{"userId":"ann","points":1,"key":"a","key":"b"}', "duplicate_key"),
    (b'{"userId":"ann","points":1.0,"key":"a"}', "points_is_float"),
    (b'{"userId":"ann","points":NaN,"key":"a"}', "invalid_number"),
    (b'{"userId":"ann","points":' + b"9" * 5_000 + b',"key":"a"}', "number_too_long"),
    (b'{"userId":"ann","points":1,"key":"a","point":2}', "unknown_field"),
    (b'{"userId":"a\\u0000","points":1,"key":"a"}', "user_id_invalid"),
    (b'{"userId":"\\ud800","points":1,"key":"a"}', "user_id_invalid"),
    (b'{"userId":"ann","points":1,"key":"a","actor":"a b"}', "actor_invalid"),
    (b'{"userId":"ann","points":1,"key":"a","actor":7}', "actor_invalid"),
    (b'{"userId":"ann","board":"none","score":1,"key":"a"}', "board_unknown"),
    (b'{"userId":"ann","action":"none","key":"a"}', "unknown_action"),
]


def test_what_is_refused_is_a_dead_letter_with_its_code_and_stops_nothing(
    send: Send, ingest: Start, dead_letters: DeadLetters
) -> None:
    bodies = [body for body, _ in BAD]
    for place, body in enumerate(bodies):
        send(entry("ann", 1, f"good-{place}"), body)
    worker = ingest()

    letters = dead_letters(len(BAD))

    until(lambda: totals() == {"ann": len(BAD)})
    assert [code for _, code in letters] == [code for _, code in BAD]
    assert worker.thread.is_alive()


def test_of_a_message_only_the_entry_that_is_refused_is_a_dead_letter(
    send: Send, ingest: Start, dead_letters: DeadLetters
) -> None:
    services.block(user_id="eve", actor="root", reason="")
    message = [entry("ann", 1, "a"), entry("eve", 1, "b"), {"userId": "bob", "points": "1", "key": "c", "x": "\ud800"}]
    send([*message, entry("bob", 2, "d")])

    ingest()

    assert dead_letters(2) == [(message[1], "user_blocked"), (message[2], "unknown_field")]
    assert totals() == {"ann": 1, "bob": 2}


def test_bad_messages_by_the_thousand_leave_the_worker_alive(
    send: Send, ingest: Start, dead_letters: DeadLetters
) -> None:
    chance = random.Random(7)
    good = [entry(f"user-{n % 9}", 1, f"k{n}") for n in range(300)]
    bad = [chance.choice(BAD[9:])[0] for _ in range(1_000)]
    mixed: list[Any] = [*good, *bad]
    chance.shuffle(mixed)
    send(*mixed)
    worker = ingest(batch=100)

    letters = dead_letters(len(bad))

    until(lambda: sum(totals().values()) == len(good))
    assert sorted(code for _, code in letters) == sorted(dict(BAD)[body] for body in bad)
    assert worker.thread.is_alive()


def test_an_unknown_outcome_repeats_the_same_batch(send: Send, ingest: Start) -> None:
    seen: list[list[str | None]] = []

    def record(changes: Sequence[Change]) -> Any:
        seen.append([change.idempotency_key for change in changes])
        recorded = writer.record(changes)
        if len(seen) < 3:  # it was committed, and nobody was told
            raise OutcomeUnknown
        return recorded

    send([entry("ann", 1, "a"), entry("bob", 2, "b")])

    ingest(record=record)

    until(lambda: len(seen) == 3)
    assert seen == [["a", "b"]] * 3
    assert totals() == {"ann": 1, "bob": 2}


def test_what_the_database_itself_refuses_is_a_dead_letter_and_the_others_count(
    send: Send, ingest: Start, dead_letters: DeadLetters, board: None
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE user_scores ADD CONSTRAINT no_mallory CHECK (user_id <> 'mallory')")
    try:
        send([entry(f"user-{n}", 1, f"k{n}") for n in range(9)] + [entry("mallory", 1, "m")], entry("bob", 1, "b"))
        ingest()

        assert dead_letters(1) == [(entry("mallory", 1, "m"), "unavailable")]
        until(lambda: totals() == {f"user-{n}": 1 for n in range(9)} | {"bob": 1})
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE user_scores DROP CONSTRAINT no_mallory")


def test_what_was_refused_is_not_recorded_when_its_message_comes_again(
    send: Send, queue: str, ingest: Start, dead_letters: DeadLetters
) -> None:
    Action.objects.create(name="quest", points=7, cooldown_s=3_600)
    quest = {"userId": "ann", "action": "quest"}
    send(quest | {"key": "a"}, quest | {"key": "b"})
    first = ingest()
    first.source.acknowledge = lambda deliveries: None  # as if it died right before
    assert dead_letters(1) == [(quest | {"key": "b"}, "action_cooling_down")]
    until(lambda: QueuedRefusal.objects.count() == 1)
    first.stop()
    Action.objects.update(cooldown_s=0)

    ingest()

    assert dead_letters(1) == [(quest | {"key": "b"}, "action_cooling_down")]
    assert totals() == {"ann": 7}
    send(quest | {"key": "b"})  # a new message with the old key is a new attempt
    until(lambda: totals() == {"ann": 14})


def test_what_another_worker_has_refused_meanwhile_is_not_recorded(
    send: Send, ingest: Start, dead_letters: DeadLetters
) -> None:
    """The line of the first broke while the message waited there, and the broker gave it to another."""
    Action.objects.create(name="quest", points=7, cooldown_s=3_600)
    quest = {"userId": "ann", "action": "quest"}
    record, places = Held(), list[str]()
    first = ingest(batch=1, record=record)
    receive = first.source.receive

    def receive_and_note(most: int, timeout_s: float) -> Any:
        deliveries = receive(most, timeout_s)
        places.extend(delivery.place for delivery in deliveries)
        return deliveries

    first.source.receive = receive_and_note
    send(quest | {"key": "a"}, quest | {"key": "b"})
    assert record.begun.wait(30)
    until(lambda: len(places) >= 2)  # the second waits

    refusals.save([Refusal("ann", "b", places[-1], ActionCoolingDown(1))])
    Action.objects.update(cooldown_s=0)
    record.go_on.set()

    assert dead_letters(1) == [(quest | {"key": "b"}, "action_cooling_down")]
    assert totals() == {"ann": 7}


def test_two_workers_share_a_queue(send: Send, ingest: Start) -> None:
    for _ in range(2):
        ingest(batch=20)

    send(*[[entry(f"user-{n}", 1, f"{m}-{n}") for n in range(10)] for m in range(60)])

    until(lambda: sum(totals().values()) == 600)
    assert ScoreEvent.objects.count() == 600


@pytest.mark.parametrize("queue", ["rabbitmq"], indirect=True)
def test_a_worker_holds_a_few_large_messages_and_leaves_the_rest_of_the_queue_to_others(
    send: Send, ingest: Start
) -> None:
    record = Held()
    send(*[[entry(f"user-{n}", 1, f"{m}-{n}") for n in range(50)] for m in range(40)])
    ingest(batch=100, record=record)
    assert record.begun.wait(30)

    ingest(batch=100)

    until(lambda: sum(totals().values()) >= (40 - FEWEST) * 50)
    record.go_on.set()
    until(lambda: sum(totals().values()) == 40 * 50)
    assert ScoreEvent.objects.count() == 40 * 50


def test_at_the_end_what_is_recorded_is_acknowledged(send: Send, queue: str, ingest: Start) -> None:
    record = Held()
    send(entry("ann", 1, "a"))
    worker = ingest(record=record)
    assert record.begun.wait(30)
    worker.ended.set()
    record.go_on.set()
    worker.stop()

    again: list[str | None] = []

    def note(changes: Sequence[Change]) -> Any:
        again.extend(change.idempotency_key for change in changes)
        return writer.record(changes)

    ingest(record=note)
    send(entry("bob", 1, "b"))
    until(lambda: totals() == {"ann": 1, "bob": 1})
    assert again == ["b"]


@pytest.mark.usefixtures("board")
def test_a_store_that_is_away_at_the_end_is_not_waited_for(send: Send, ingest: Start) -> None:
    tried = threading.Event()

    def record(changes: Sequence[Change]) -> Any:
        tried.set()
        raise OutcomeUnknown

    send(entry("ann", 1, "a"))
    worker = ingest(record=record)
    assert tried.wait(30)

    worker.stop()

    ingest()
    until(lambda: totals() == {"ann": 1})
