"""The brokers that messages come through: a real RabbitMQ, and one that speaks Kafka's protocol."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aiormq.exceptions import AMQPError
from confluent_kafka import Consumer, KafkaError, TopicPartition

from leaderboard_site.conf.broker import broker_of
from scores.log.writer import writer
from scores.streams.broker import Message, Sink, Source, configured, sink, source
from scores.streams.ingest import Ingest
from scores.streams.messages import dead_queue
from tests.polling import until
from tools.kafka import Kafka, Noida
from tools.stores import RabbitMQ

Send = Callable[..., None]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The one in which a group is together after half a second."""
    broker = Noida(tmp_path_factory.mktemp("kafka"))
    broker.boot()
    yield broker
    broker.kill()


@pytest.fixture(params=["rabbitmq", "kafka"])
def queue(request: pytest.FixtureRequest, settings: Any) -> str:
    """The name of a queue that only this test has, in one broker and in the other."""
    name = f"ingest-{uuid4().hex[:12]}"
    use(request.getfixturevalue(request.param), name, settings)
    return name


def use(broker: RabbitMQ | Kafka, name: str, settings: Any, *, partitions: int = 1) -> None:
    settings.BROKER = broker_of(broker.url)
    settings.INGEST_QUEUE = name
    if isinstance(broker, Kafka):
        broker.make_topics(name, dead_queue(name), partitions=partitions)


@pytest.fixture
def send(queue: str) -> Iterator[Send]:
    """Puts messages into the queue: `send(b"…", {"userId": …}, [{…}, {…}])`, each confirmed."""
    opened = sink(queue)

    def send(*bodies: Any) -> None:
        encoded = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
        opened.send([Message(body) for body in encoded])

    yield send
    opened.close()


class Worker:
    """`Ingest` in a thread of the test."""

    def __init__(self, name: str, batch: int, record: Any) -> None:
        self.ended = threading.Event()
        self.source: Source = source(name)
        self.dead_letters: Sink = sink(dead_queue(name))
        ingest = Ingest(self.source, self.dead_letters, record, self.ended, name=name, batch=batch)
        self.thread = threading.Thread(target=ingest.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.ended.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def ingest(board: None, queue: str) -> Iterator[Callable[..., Worker]]:
    """Starts to drain the queue: `ingest()`, or `ingest(batch=3)`."""
    workers: list[Worker] = []

    def start(*, batch: int = 512, record: Any = writer.record) -> Worker:
        workers.append(Worker(queue, batch, record))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def dead_letters(queue: str) -> Callable[[int], list[tuple[Any, str]]]:
    """The next so many dead letters: what came, as JSON if it is, and the code of why it was refused. No more are there."""

    def read(count: int) -> list[tuple[Any, str]]:
        name = dead_queue(queue)
        if configured().kind == "kafka":
            return from_topic(name, count)
        try:
            return asyncio.run(from_queue(name, count))
        except AMQPError:  # RabbitMQ may fail while two make the same quorum queue; nothing was read
            return asyncio.run(from_queue(name, count))

    return read


async def from_queue(name: str, count: int) -> list[tuple[Any, str]]:
    async with await aio_pika.connect(configured().url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        found: list[tuple[Any, str]] = []
        async with asyncio.timeout(30), queue.iterator() as messages:
            while len(found) < count:
                message = await anext(messages)
                await message.ack()
                found.append((content(message.body), str(message.headers["code"])))
        assert await queue.get(fail=False) is None
        return found


def from_topic(name: str, count: int) -> list[tuple[Any, str]]:
    consumer = Consumer(
        configured().options
        | {"group.id": uuid4().hex, "auto.offset.reset": "earliest", "enable.partition.eof": True, "log_level": 0}
    )
    consumer.assign([TopicPartition(name, 0, 0)])
    found: list[tuple[Any, str]] = []
    is_at_end = False

    def look() -> bool:
        nonlocal is_at_end
        for message in consumer.consume(count + 1, 0.2):
            if (error := message.error()) is not None:
                is_at_end = error.code() == KafkaError._PARTITION_EOF
            else:
                is_at_end = False
                headers: Any = message.headers()
                found.append((content(message.value() or b""), dict(headers)["code"].decode()))
        return len(found) >= count and is_at_end

    until(look)
    consumer.close()
    assert len(found) == count
    return found


def content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body
