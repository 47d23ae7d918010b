"""Who fills the queue, and who reads its dead letters."""

from __future__ import annotations

import json
import threading
import time
from random import Random
from typing import Any

import pika

from tools.stores import RabbitMQ

from .amqp import FAILURES, QUORUM, channel_of, connected_to, taken
from .orders import Composer, Key, Orders

QUEUE = "leaderboard.ingest"
DEAD_QUEUE = "leaderboard.ingest.dead"
SENDERS = 4
MESSAGES_PER_S = 25.0  # of all senders together, of 20 entries on average
CONFIRMED_WITHIN_S = 60.0
SENT_TWICE = 0.03  # the share of messages whose sender has forgotten that it had sent them


class Producer:
    """Sends messages at a steady rate, each again until the broker has confirmed it. What is sent anew has the same keys."""

    def __init__(self, broker: RabbitMQ, orders: Orders, seed: int) -> None:
        self._broker = broker
        self._orders = orders
        self._chance = Random(seed)
        self._composer = Composer(orders, self._chance)
        self.confirmed: list[list[Key]] = []  # by message
        self.unconfirmed = 0  # sent, and nobody said whether it had arrived
        self._composing = threading.Lock()
        self._running, self._ended = threading.Event(), threading.Event()
        self._paused = [threading.Event() for _ in range(SENDERS)]
        # A daemon: the confirmation that it waits for may never come, which `pause` says.
        self._threads = [threading.Thread(target=self._produce, args=[paused], daemon=True) for paused in self._paused]

    def use_keys(self) -> list[Key]:
        """Send those that later entries use again, which may only be sent when these are in the log: whoever is first wins."""
        sender = Sender(self._broker)
        body, keys = self._composer.used_keys()
        self._send(sender, body, keys)
        sender.close()
        return keys

    def start(self) -> None:
        self._running.set()
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """Return when all that was sent is confirmed."""
        self._running.clear()
        for paused in self._paused:
            paused.clear()
        until = time.monotonic() + CONFIRMED_WITHIN_S
        for paused in self._paused:
            assert paused.wait(until - time.monotonic()), "the producer has failed, or a message was never confirmed"

    def resume(self) -> None:
        self._running.set()

    def stop(self) -> None:
        self._ended.set()
        until = time.monotonic() + CONFIRMED_WITHIN_S
        for thread in self._threads:
            if thread.ident:
                thread.join(until - time.monotonic())

    def _produce(self, paused: threading.Event) -> None:
        sender = Sender(self._broker)
        while not self._ended.is_set():
            if self._running.is_set():
                with self._composing:
                    body, keys = self._composer.message()
                    times = 2 if self._chance.random() < SENT_TWICE else 1
                    rest_s = self._chance.uniform(0, 2) * SENDERS / MESSAGES_PER_S
                for _ in range(times):
                    self._send(sender, body, keys)
                self._ended.wait(rest_s)
            else:
                paused.set()
                self._ended.wait(0.01)
        sender.close()

    def _send(self, sender: Sender, body: bytes, keys: list[Key]) -> None:
        with self._composing:
            identity = f"{self._chance.getrandbits(64):x}"
        while not self._ended.is_set():
            if sender.connected():
                with self._composing:
                    self._orders.sent.update(keys)
                if sender.send(body, identity):
                    self.confirmed.append(keys)
                    return
                self.unconfirmed += 1
            self._ended.wait(0.1)


class Sender:
    """A connection, made again after a failure."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker
        self._connection: Any = None

    def connected(self) -> bool:
        """Whether it is, after a try."""
        try:
            if self._connection is None:
                self._connection = connected_to(self._broker)
                self._channel = self._connection.channel()
                self._channel.confirm_delivery()
                self._channel.queue_declare(QUEUE, durable=True, arguments=QUORUM)
        except FAILURES:
            self.close()
            return False
        return True

    def send(self, body: bytes, identity: str) -> bool:
        """Whether the broker has confirmed it before the line broke."""
        properties = pika.BasicProperties(message_id=identity, delivery_mode=pika.DeliveryMode.Persistent)
        try:
            self._channel.basic_publish("", QUEUE, body, properties, mandatory=True)
        except FAILURES:
            self.close()
            return False
        return True

    def close(self) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is not None and connection.is_open:
                connection.close()
        except FAILURES:
            pass  # with the broker


def ready(broker: RabbitMQ) -> int:
    """How many messages wait in the queue, without those that a worker has."""
    with channel_of(broker) as channel:
        count: int = channel.queue_declare(QUEUE, passive=True).method.message_count
        return count


def take_dead_letters(broker: RabbitMQ) -> list[tuple[Key, str]]:
    """All of them, with their codes; they are gone then."""
    with channel_of(broker) as channel:
        return [(key_of(body), str(properties.headers["code"])) for properties, body in taken(channel, DEAD_QUEUE)]


def key_of(body: bytes) -> Key:
    try:
        entry: Any = json.loads(body)
        return entry["userId"], entry["key"]
    except ValueError:
        return "", body.decode()
