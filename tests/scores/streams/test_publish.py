"""Every event of the log goes to the broker in order, at least once, and none before its commit."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from confluent_kafka import Consumer, TopicPartition
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from prometheus_client import REGISTRY

from leaderboard_site.conf.broker import broker_of
from scores import services
from scores.followers import Runner, publishing
from scores.log.head import log
from scores.log.lease import Lease
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Board, Follower, Leaderboard, ScoreEvent
from scores.streams import publish as publish_module
from scores.streams import rabbitmq as rabbitmq_module
from scores.streams.broker import BrokerFailed, configured, stream
from scores.streams.events import MOST_BYTES
from scores.streams.publish import Publisher
from tests.conftest import database_url
from tests.polling import until
from tools.kafka import Kafka
from tools.servers import ROOT
from tools.stores import RabbitMQ

# As CloudEvents 1.0 defines a structured-mode message of JSON.
REQUIRED = {"specversion", "id", "source", "type"}
OPTIONAL = {"subject", "time", "datacontenttype", "data", "sequence"}
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

Received = tuple[str, str, str, Any]  # content type, key or routing key, id, and the body


class Reader:
    """Reads what is published by a client that is not ours: all of it so far, from the first message on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[Received] = []
        if configured().kind == "kafka":
            options = configured().options | {"group.id": uuid4().hex, "log_level": 0}
            self.consumer = Consumer(options)
            self.consumer.assign([TopicPartition(name, 0, 0)])
        else:
            asyncio.run(self._bind())

    async def _bind(self) -> None:
        async with await aio_pika.connect(configured().url) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(self.name, "topic", durable=True)
            # Not a quorum queue: RabbitMQ 3.10 does not find one again that was made in the second before it was killed.
            queue = await channel.declare_queue(self.name, durable=True)
            await queue.bind(exchange, "#")

    async def _drain(self) -> None:
        """Up to a message that is put behind all others."""
        async with await aio_pika.connect(configured().url) as connection:
            channel = await connection.channel()
            last = aio_pika.Message(b"", message_id=uuid4().hex)
            await channel.default_exchange.publish(last, self.name)
            queue = await channel.declare_queue(self.name, passive=True)
            async with asyncio.timeout(60), queue.iterator(no_ack=True) as messages:
                async for message in messages:
                    if message.message_id == last.message_id:
                        break
                    self._take(message.content_type, message.routing_key, message.message_id, message.body)

    def _take(self, content_type: Any, key: Any, message_id: Any, body: bytes | None) -> None:
        assert body is not None
        self.received.append((content_type, key, message_id, json.loads(body)))

    def look(self) -> list[Received]:
        if configured().kind == "rabbitmq":
            asyncio.run(self._drain())
            return self.received
        partition = TopicPartition(self.name, 0)
        _, end = self.consumer.get_watermark_offsets(partition, 30)
        until(lambda: self._consume() >= end, 60)
        return self.received

    def _consume(self) -> int:
        """What the next offset is."""
        for message in self.consumer.consume(500, 0.2):
            assert message.error() is None, message.error()
            headers: Any = message.headers()
            key = (message.key() or b"").decode()
            self._take(dict(headers)["content-type"].decode(), key, None, message.value())
        return len(self.received)

    def events(self) -> list[Any]:
        """In the order in which they came, those of arrays too."""
        bodies = [body for *_, body in self.look()]
        return [event for body in bodies for event in (body if isinstance(body, list) else [body])]

    def seqs(self) -> list[int]:
        return [event["data"]["seq"] for event in self.events()]

    def close(self) -> None:
        if configured().kind == "kafka":
            self.consumer.close()


def firsts(seqs: list[int]) -> list[int]:
    """Without repeats."""
    return list(dict.fromkeys(seqs))


@pytest.fixture(params=["rabbitmq", "kafka"])
def topic(board: None, request: pytest.FixtureRequest, settings: Any) -> str:
    """An exchange or a topic that only this test has."""
    broker: RabbitMQ | Kafka = request.getfixturevalue(request.param)
    return use(broker, settings)


def use(broker: RabbitMQ | Kafka, settings: Any) -> str:
    name = f"events-{uuid4().hex[:12]}"
    settings.BROKER = broker_of(broker.url)
    settings.PUBLISH_TO = name
    if isinstance(broker, Kafka):
        broker.make_topics(name)
    return name


@pytest.fixture
def reader(topic: str) -> Iterator[Reader]:
    reader = Reader(topic)
    yield reader
    reader.close()


@pytest.fixture
def publisher(board: None) -> Iterator[Callable[..., Publisher]]:
    """A publisher that has the lease: `publisher(topic)`, or `publisher(topic, batch=3)`."""
    made: list[Publisher] = []

    def make(name: str, *, batch: int = 1) -> Publisher:
        lease = Lease(log, "publish", is_dedicated=True)
        lease.hold()
        lease._held_until = float("inf")  # no machine stands still for so long
        made.append(Publisher(log, lease, stream(name), batch=batch))
        return made[-1]

    yield make
    for each in made:
        each.end()


def publish_all(publisher: Publisher) -> None:
    while publisher.publish():
        pass


def increment(count: int, user_id: str = "ann") -> None:
    writer.record([Change(Kind.INCREMENT, user_id, 1) for _ in range(count)])


def position() -> int:
    return Follower.objects.get(name="publish").seq


def is_cloud_event(event: Any) -> bool:
    assert REQUIRED <= event.keys() <= REQUIRED | OPTIONAL
    assert all(isinstance(event[name], str) and event[name] for name in event.keys() - {"data"})
    assert event["specversion"] == "1.0"
    assert RFC3339.fullmatch(event["time"])
    datetime.fromisoformat(event["time"])
    assert event["datacontenttype"] == "application/json"
    return all(re.fullmatch("[a-z0-9]+", name) for name in event)


def test_each_event_is_a_cloud_event_once_and_in_order(
    topic: str, reader: Reader, publisher: Callable[..., Publisher]
) -> None:
    Board.objects.create(name="laps", fold="best", order="lower", stream="laps")
    writer.record([Change(Kind.INCREMENT, "Zoë", 7, "k1", actor="service:arena")])
    writer.record([Change(Kind.SCORE, "ann", 83, "k2", stream="laps", metadata='{"car":"ä","t":1.50}')])
    services.correct(user_id="Zoë", total=5, actor="root", reason="of Zoë's private life")
    services.block(user_id="Zoë", actor="root", reason="")
    services.unblock(user_id="Zoë", actor="root", reason="")
    writer.record([Change(Kind.VOID, "ann", voids=2, actor="root", reason="secret")])

    publish_all(publisher(topic))

    events = reader.events()
    epoch = log.head().origin
    assert all(is_cloud_event(event) for event in events)
    assert [event["id"] for event in events] == [f"{epoch}.{seq}" for seq in range(1, 7)]
    kinds = ["increment", "score", "correction", "block", "unblock", "void"]
    assert [event["type"] for event in events] == [f"leaderboard.{kind}" for kind in kinds]
    assert [event["subject"] for event in events] == ["Zoë", "ann", "Zoë", "Zoë", "Zoë", "ann"]
    assert sorted(event["sequence"] for event in events) == [f"{seq:019d}" for seq in range(1, 7)]
    assert {event["source"] for event in events} == {"/leaderboard"}
    head = {"epoch": epoch, "userId": "Zoë"}
    data = [event["data"] for event in events]
    assert data[0] == head | {
        "seq": 1,
        "kind": "increment",
        "points": 7,
        "total": 7,
        "key": "k1",
        "actor": "service:arena",
    }
    assert data[1]["metadata"] == {"car": "ä", "t": 1.5}
    assert (data[1]["board"], data[1]["points"], data[5]["voids"]) == ("laps", 83, 2)
    assert data[2] == head | {"seq": 3, "kind": "correction", "points": -2, "total": 5, "actor": "root"}
    assert "private" not in str(events)
    assert "secret" not in str(events)
    content_types, keys, ids, _ = zip(*reader.received, strict=True)
    assert set(content_types) == {"application/cloudevents+json"}
    if configured().kind == "kafka":
        assert list(keys) == [event["subject"] for event in events]
    else:
        assert list(keys) == ["increment", "score.laps", "correction", "block", "unblock", "void.laps"]
        assert list(ids) == [event["id"] for event in events]


def test_several_to_a_message_are_an_array_of_a_bounded_size(
    topic: str, reader: Reader, publisher: Callable[..., Publisher]
) -> None:
    increment(25)
    publish_all(publisher(topic, batch=10))
    assert [len(body) for *_, body in reader.look()] == [10, 10, 5]
    assert {content_type for content_type, *_ in reader.received} == {"application/cloudevents-batch+json"}

    increment(1)
    publish_all(publisher(topic, batch=10))
    user_id, key = "ü" * 255, "k" * 240
    writer.record([Change(Kind.INCREMENT, user_id, 1, f"{key}{n}", actor=user_id) for n in range(450)])
    publish_all(publisher(topic, batch=1_000))

    *_, array = reader.look()[3]
    sizes = [len(json.dumps(body, ensure_ascii=False).encode()) for *_, body in reader.look()]
    assert len(array) == 1
    assert len(sizes) > 5
    assert max(sizes) < 1.2 * MOST_BYTES  # with the blanks of this encoder
    assert reader.seqs() == list(range(1, 477))
    assert all(is_cloud_event(event) for event in reader.events())


def test_what_is_not_committed_is_not_published(
    topic: str, reader: Reader, publisher: Callable[..., Publisher], rival: BaseDatabaseWrapper
) -> None:
    increment(3)
    mine = publisher(topic)
    rival.set_autocommit(False)
    with rival.cursor() as cursor:
        cursor.execute("UPDATE leaderboards SET seq = 4")
        cursor.execute(
            "INSERT INTO score_events (seq, user_id, kind, points, total) VALUES (4, 'bob', 'increment', 1, 1)"
        )
    publish_all(mine)
    assert reader.seqs() == [1, 2, 3]

    rival.rollback()
    increment(1)
    publish_all(mine)

    assert reader.seqs() == [1, 2, 3, 4]
    assert reader.events()[3]["subject"] == "ann"


def test_two_at_once_skip_nothing(
    topic: str, reader: Reader, publisher: Callable[..., Publisher], monkeypatch: Any
) -> None:
    monkeypatch.setattr(publish_module, "MOST_EVENTS", 20)
    increment(300)
    both = [publisher(topic), publisher(topic)]

    def run(each: Publisher) -> None:
        publish_all(each)
        connection.close()

    threads = [threading.Thread(target=run, args=[each]) for each in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert position() == 300
    assert firsts(reader.seqs()) == list(range(1, 301))


# Another log


def put_back(seq: int) -> None:
    """The database is as it was after event `seq`, position and all."""
    ScoreEvent.objects.filter(seq__gt=seq).delete()
    Leaderboard.objects.update(seq=seq)
    with connection.cursor() as cursor:
        mark = log.mark_of(seq)
        cursor.execute("UPDATE followers SET seq = %s, mark = %s", [seq, mark])


def test_after_the_database_was_put_back_what_differs_is_published_in_the_new_epoch(
    topic: str, reader: Reader, publisher: Callable[..., Publisher]
) -> None:
    for _ in range(5):
        increment(1)
    mine = publisher(topic)
    publish_all(mine)
    old = log.head().origin
    put_back(3)
    increment(4, "bob")

    publish_all(mine)

    new = log.head().origin
    ids = [event["id"] for event in reader.events()]
    assert new != old
    assert ids == [f"{old}.{seq}" for seq in range(1, 6)] + [f"{new}.{seq}" for seq in range(4, 8)]


def test_a_position_of_an_event_that_the_log_does_not_have_begins_at_the_first(
    topic: str, reader: Reader, publisher: Callable[..., Publisher]
) -> None:
    increment(2)
    publish_all(publisher(topic))
    Follower.objects.update(mark=7)

    publish_all(publisher(topic))

    assert reader.seqs() == [1, 2, 1, 2]
    assert position() == 2


def test_what_was_put_back_before_the_confirmation_does_not_move_the_position(
    topic: str, reader: Reader, publisher: Callable[..., Publisher]
) -> None:
    increment(2)
    mine = publisher(topic)
    publish_all(mine)
    increment(3)
    send = mine._sink.send

    def put_back_first(messages: Any) -> None:
        send(messages)
        mine._sink.send = send  # type: ignore[method-assign]
        put_back(2)
        increment(5, "bob")  # past the number that was sent

    mine._sink.send = put_back_first  # type: ignore[method-assign]
    publish_all(mine)

    last = [event for event in reader.events() if event["data"]["epoch"] == log.head().origin]
    assert [event["data"]["seq"] for event in last] == [3, 4, 5, 6, 7]
    assert {event["subject"] for event in last} == {"bob"}


def test_events_that_were_archived_are_no_reason_to_begin_anew(
    topic: str, reader: Reader, publisher: Callable[..., Publisher]
) -> None:
    increment(4)
    ScoreEvent.objects.filter(seq__lt=3).delete()
    publish_all(publisher(topic))
    ScoreEvent.objects.all().delete()
    log._seen = None
    increment(1)

    publish_all(publisher(topic))

    assert reader.seqs() == [3, 4, 5]


# Crashes


# For each line that it reads, it becomes two: a process that has started Django already runs `manage.py follow`.
FOLLOW = """
import os, signal, sys, django
django.setup()
import scores.followers, scores.streams.kafka, scores.streams.rabbitmq
from django.core.management import call_command
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while sys.stdin.readline():
    pid = os.fork()
    if pid == 0:
        call_command("follow")
        os._exit(0)
    print(pid, flush=True)
"""


class Followers:
    """Follow processes, one after the other."""

    def __init__(self, **env: str) -> None:
        env = os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"} | env
        command = [sys.executable, "-c", FOLLOW]
        self.parent = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self) -> int:
        assert self.parent.stdin
        assert self.parent.stdout
        self.parent.stdin.write("\n")
        return int(self.parent.stdout.readline())

    def end(self) -> None:
        self.parent.kill()
        self.parent.communicate()


@pytest.mark.slow
def test_nothing_is_skipped_when_the_process_is_killed_again_and_again(topic: str, reader: Reader, board: None) -> None:
    url = configured().url or f"kafka://{configured().options['bootstrap.servers']}"
    chance = random.Random(topic)
    followers = Followers(BROKER_URL=url, PUBLISH="on", PUBLISH_TO=topic)
    pid = followers.start()
    try:
        for _ in range(3):
            done = Follower.objects.filter(name="publish").values_list("seq", flat=True).first() or 0
            increment(chance.randint(100, 1_000))
            until(lambda done=done: Follower.objects.filter(name="publish", seq__gt=done).exists())  # type: ignore[misc]
            increment(300)
            time.sleep(chance.random() / 10)  # at any moment: this is no wait for something
            os.kill(pid, signal.SIGKILL)
            Follower.objects.update(lease_until=None)  # not two seconds later
            pid = followers.start()
        head = log.head().seq
        until(lambda: position() == head, 60)
    finally:
        os.kill(pid, signal.SIGKILL)
        followers.end()

    assert firsts(reader.seqs()) == list(range(1, head + 1))


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_gets_what_it_has_not_confirmed(
    board: None, rabbitmq: RabbitMQ, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    name = use(rabbitmq, settings)
    reader = Reader(name)
    runner = Runner(publishing, Lease(log, "publish", is_dedicated=True))
    caplog.set_level("INFO", "scores.followers")
    runner.start()
    try:
        increment(50)
        until(lambda: Follower.objects.filter(name="publish", seq=50).exists())
        rabbitmq.kill()
        increment(50)
        until(lambda: "waits for the broker" in caplog.text)
        until(lambda: REGISTRY.get_sample_value("leaderboard_publish_lag") == 50)
        assert position() == 50
        rabbitmq.boot()
        until(lambda: position() == 100)
    finally:
        runner.stop()

    assert REGISTRY.get_sample_value("leaderboard_published_seq") != 100  # it leaves that to others
    assert caplog.text.count("waits for the broker") == 1
    assert firsts(reader.seqs()) == list(range(1, 101))


def test_a_broker_that_does_not_confirm_moves_no_position(
    board: None, rabbitmq: RabbitMQ, settings: Any, publisher: Callable[..., Publisher], monkeypatch: Any
) -> None:
    name = use(rabbitmq, settings)
    reader = Reader(name)
    increment(5)
    mine = publisher(name)
    publish_all(mine)
    increment(5)
    monkeypatch.setattr(rabbitmq_module, "CONFIRM_S", 0.3)
    rabbitmq.freeze()
    try:
        with pytest.raises(BrokerFailed):
            mine.publish()
        assert position() == 5
    finally:
        rabbitmq.thaw()
    monkeypatch.undo()

    until(lambda: _goes_on(mine))

    assert firsts(reader.seqs()) == list(range(1, 11))


def _goes_on(publisher: Publisher) -> bool:
    try:
        publish_all(publisher)
    except BrokerFailed:
        return False
    return position() == 10
