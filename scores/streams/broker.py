"""What this service needs of a broker: messages out, each confirmed, and messages in, each acknowledged.

RabbitMQ and Kafka differ in the rest. A `Source` and a `Sink` belong to one thread, and connect when they are first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from django.conf import settings

JSON = "application/json"
CONFIRM_S = 5.0  # for a confirmation: a quorum queue writes to disk first


class Broker(Protocol):
    """Where it is, as the settings read it from BROKER_URL."""

    @property
    def kind(self) -> str: ...  # rabbitmq or kafka

    @property
    def url(self) -> str: ...  # of RabbitMQ

    @property
    def options(self) -> dict[str, str]: ...  # of Kafka's clients


class BrokerFailed(Exception):  # noqa: N818  names what happened
    """The broker is away, refuses, or did not confirm in time. What was sent may have arrived."""


@dataclass(frozen=True)
class Message:
    """`key` decides about Kafka's partition, so that messages with one key stay in order; `topic` about what is bound to
    an exchange of RabbitMQ."""

    body: bytes
    key: str = ""
    topic: str = ""
    id: str = ""  # that RabbitMQ passes on; if empty, a random one
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON


class Delivery(NamedTuple):
    """A message that came."""

    body: bytes
    place: str  # what tells it apart from all others; empty if nothing does, since its sender gave it no id
    is_new: bool  # whether the broker knows that it has not come before
    handle: Any  # of the source alone


class Source(Protocol):
    """Messages of a queue or topic, in the order in which they came."""

    def receive(self, most: int, timeout_s: float) -> list[Delivery]:
        """Wait for a message, and return what is there, at most so many. Raises `BrokerFailed`."""

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """These are done, and so are all that came before them. Raises `BrokerFailed`: some will come again."""

    def close(self) -> None: ...


class Sink(Protocol):
    """A queue, exchange or topic to write to."""

    def open(self) -> None:
        """Make it if it is not there, where the broker lets its clients do so. Raises `BrokerFailed`."""

    def send(self, messages: Sequence[Message]) -> None:
        """Return when the broker has confirmed all of them. Raises `BrokerFailed`: each may have arrived."""

    def close(self) -> None: ...


def source(name: str) -> Source:
    """Reads the queue or topic of this name."""
    from . import kafka, rabbitmq  # each with a library that nobody without a broker needs in memory

    broker = configured()
    if broker.kind == "kafka":
        return kafka.KafkaSource(broker, name)
    return rabbitmq.RabbitSource(broker, name)


def sink(name: str) -> Sink:
    """Writes to the queue or topic of this name."""
    from . import kafka, rabbitmq

    broker = configured()
    return kafka.KafkaSink(broker, name) if broker.kind == "kafka" else rabbitmq.RabbitSink(broker, name)


def stream(name: str) -> Sink:
    """Writes to the exchange or topic of this name, which has any number of readers, or none."""
    from . import kafka, rabbitmq

    broker = configured()
    return kafka.KafkaSink(broker, name) if broker.kind == "kafka" else rabbitmq.RabbitExchange(broker, name)


def configured() -> Broker:
    broker: Broker | None = settings.BROKER
    assert broker is not None  # who comes here has asked
    return broker
