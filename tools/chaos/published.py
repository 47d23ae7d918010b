"""What the service publishes: a queue that gets all of it, and the judgement of what came."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from tools.stores import RabbitMQ

from .amqp import QUORUM, channel_of, taken

EXCHANGE = "leaderboard.events"
QUEUE = "chaos.events"


class Event(NamedTuple):
    user_id: str
    key: str
    points: int


class Published:
    """All that came, by epoch and seq."""

    def __init__(self) -> None:
        self.messages = 0
        self.again = 0  # of an event that had come
        self._came: dict[str, dict[int, Event]] = defaultdict(dict)
        self._newest: dict[str, int] = defaultdict(int)
        self._wrong: set[int] = set()

    def take(self, event: Mapping[str, Any]) -> None:
        """An event may come again, and those after it. It may not come before the one that it follows."""
        data = event["data"]
        epoch, seq = data["epoch"], data["seq"]
        came = Event(data["userId"], data["key"], data["points"])
        self.messages += 1
        self.again += seq in self._came[epoch]
        if seq > self._newest[epoch] + 1 or self._came[epoch].setdefault(seq, came) != came:
            self._wrong.add(seq)
        self._newest[epoch] = max(self._newest[epoch], seq)

    def wrong(self, log: Mapping[int, Event]) -> set[int]:
        """The events of `log`, which has one epoch, that did not come, or late, or not as they are there; and all others."""
        came = {seq: event for events in self._came.values() for seq, event in events.items()}
        differ = {seq for seq in log.keys() | came.keys() if log.get(seq) != came.get(seq)}
        return self._wrong | differ


def bind(broker: RabbitMQ) -> None:
    """From now on the queue gets everything."""
    with channel_of(broker) as channel:
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        channel.queue_declare(QUEUE, durable=True, arguments=QUORUM)
        channel.queue_bind(QUEUE, EXCHANGE, "#")


def take_events(broker: RabbitMQ, published: Published) -> None:
    with channel_of(broker) as channel:
        for _, body in taken(channel, QUEUE):
            published.take(json.loads(body))
