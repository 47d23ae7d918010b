"""RabbitMQ as chaos uses it: by another library than the service's, and none of its code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
from pika.exceptions import AMQPError

from tools.stores import RabbitMQ

QUORUM = {"x-queue-type": "quorum"}
ANSWER_S = 5.0  # for a broker that has just started
FAILURES = (AMQPError, OSError)

logging.getLogger("pika").setLevel(logging.CRITICAL)  # it tells of each broken line


def connected_to(broker: RabbitMQ) -> Any:
    parameters = pika.URLParameters(broker.url)
    parameters.heartbeat = 0  # a sender that is paused would answer none
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = ANSWER_S
    return pika.BlockingConnection(parameters)


@contextmanager
def channel_of(broker: RabbitMQ) -> Iterator[Any]:
    """A channel of a connection of its own."""
    connection = connected_to(broker)
    try:
        yield connection.channel()
    finally:
        connection.close()


def taken(channel: Any, queue: str) -> Iterator[tuple[Any, bytes]]:
    """Properties and body of each message, until there is none left. They are gone then."""
    while (message := channel.basic_get(queue, auto_ack=True))[0] is not None:
        yield message[1:]
