"""Brokers of Kafka's protocol, by librdkafka, which has threads of its own and connects again by itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from .broker import CONFIRM_S, Broker, BrokerFailed, Delivery, Message

logger = logging.getLogger(__name__)

GROUP = "leaderboard"
# Of messages that librdkafka fetches ahead. It asks for up to 1 MiB of more as soon as there are fewer than that, which is
# little for messages of one entry, and for those of a thousand much.
FEWEST_WAITING = 100
MOST_BYTES_WAITING = 16 * 1024  # KiB
QUIET = {"log_level": 2}  # what is wrong is raised here, or returned in place of a message


class KafkaSource:
    def __init__(self, broker: Broker, name: str) -> None:
        self._name = name
        options: dict[str, Any] = (
            QUIET
            | broker.options
            | {
                "group.id": GROUP,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "queued.min.messages": FEWEST_WAITING,
                "queued.max.messages.kbytes": MOST_BYTES_WAITING,
                "allow.auto.create.topics": True,
            }
        )
        try:
            self._consumer = Consumer(options)
        except KafkaException as error:  # a property that there is not
            raise BrokerFailed(_text(error)) from error
        self._consumer.subscribe([name])

    def receive(self, most: int, timeout_s: float) -> list[Delivery]:
        try:
            messages = self._consumer.consume(most, timeout_s)
        except KafkaException as error:
            raise BrokerFailed(_text(error)) from error
        deliveries = []
        for message in messages:
            if (failure := message.error()) is None:
                place = f"{message.topic()}/{message.partition()}/{message.offset()}"
                deliveries.append(Delivery(message.value() or b"", place, False, message))
            elif not deliveries:
                raise BrokerFailed(failure.str())
        return deliveries

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        next_offsets: dict[int, int] = {}
        for delivery in deliveries:
            partition, offset = delivery.handle.partition(), delivery.handle.offset()
            next_offsets[partition] = max(next_offsets.get(partition, 0), offset + 1)
        offsets = [TopicPartition(self._name, partition, offset) for partition, offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:  # also when the partition was given to another process
            raise BrokerFailed(_text(error)) from error

    def close(self) -> None:
        self._consumer.close()


class KafkaSink:
    def __init__(self, broker: Broker, name: str) -> None:
        self._options: dict[str, Any] = (
            QUIET
            | broker.options
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 1,
                "delivery.timeout.ms": int(CONFIRM_S * 1000),
            }
        )
        self._name = name
        self._producer: Producer | None = None

    def open(self) -> None:
        """Topics are made by who knows how many partitions they need, or by the broker when it is first written to."""

    def send(self, messages: Sequence[Message]) -> None:
        producer = self._producer = self._producer or self._connect()
        failures: list[KafkaError] = []

        def note(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failures.append(error)

        try:
            for message in messages:
                headers: dict[str, Any] = {**message.headers, "content-type": message.content_type}
                producer.produce(
                    self._name, message.body, message.key or None, headers=headers, on_delivery=note
                )  # fmt: skip
                producer.poll(0)
            waiting = producer.flush(CONFIRM_S)
        except (KafkaException, BufferError) as error:
            self._forget()
            raise BrokerFailed(str(error)) from error
        if waiting or failures:
            self._forget()
            raise BrokerFailed(failures[0].str() if failures else f"{waiting} messages were not confirmed in time")

    def close(self) -> None:
        self._forget()

    def _connect(self) -> Producer:
        try:
            return Producer(self._options)
        except KafkaException as error:
            raise BrokerFailed(_text(error)) from error

    def _forget(self) -> None:
        """A producer goes on trying by itself, and what it sends late would come after what is sent again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(0)


def _text(error: KafkaException) -> str:
    found = error.args[0]
    return found.str() if isinstance(found, KafkaError) else str(error)
