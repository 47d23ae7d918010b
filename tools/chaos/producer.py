"""Who fills the queue, and who reads its dead letters: by the library alone, and none of the service's code."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from random import Random
from typing import Any

import aio_pika
from aio_pika.connection import make_url
from aiormq.exceptions import AMQPError
from pamqp.common import FieldTable

from tools.stores import RabbitMQ

from .orders import Composer, Key, Orders

QUEUE = "leaderboard.ingest"
DEAD_QUEUE = "leaderboard.ingest.dead"
QUORUM: FieldTable = {"x-queue-type": "quorum"}
SENDERS = 4
MESSAGES_PER_S = 25.0  # of all senders together, of 20 entries on average
CONFIRM_S = 3.0
SENT_TWICE = 0.03  # the share of messages whose sender has forgotten that it had sent them
FAILURES = (AMQPError, OSError, TimeoutError, RuntimeError)

logging.getLogger("aiormq").addHandler(logging.NullHandler())  # it tells of each broken line


class Producer:
    """Sends messages at a steady rate, each again until the broker has confirmed it. What is sent anew has the same keys."""

    def __init__(self, broker: RabbitMQ, orders: Orders, seed: int) -> None:
        self._broker = broker
        self._orders = orders
        self._chance = Random(seed)
        self._composer = Composer(orders, self._chance)
        self.confirmed: list[list[Key]] = []  # by message
        self.unconfirmed = 0  # sent, and nobody said whether it had arrived
        self._running, self._ended = threading.Event(), threading.Event()
        self._under_way = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def start(self) -> None:
        """Return when the keys that are to be used are used."""
        asyncio.run(self._begin())
        self._running.set()
        self._thread.start()

    def pause(self) -> None:
        """Return when all that was sent is confirmed."""
        self._running.clear()
        while self._under_way:
            assert self._thread.is_alive(), "the producer has failed"
            self._ended.wait(0.01)

    def resume(self) -> None:
        self._running.set()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.ident:
            self._thread.join()

    async def _begin(self) -> None:
        sender = Sender(self._broker)
        await self._send(sender, *self._composer.used_keys())
        await sender.close()

    async def _run(self) -> None:
        await asyncio.gather(*(self._produce() for _ in range(SENDERS)))

    async def _produce(self) -> None:
        sender = Sender(self._broker)
        while not self._ended.is_set():
            self._under_way += 1  # before the look, or `pause` could miss it
            if self._running.is_set():
                body, keys = self._composer.message()
                for _ in range(2 if self._chance.random() < SENT_TWICE else 1):
                    await self._send(sender, body, keys)
            self._under_way -= 1
            await asyncio.sleep(self._chance.uniform(0, 2) * SENDERS / MESSAGES_PER_S)
        await sender.close()

    async def _send(self, sender: Sender, body: bytes, keys: list[Key]) -> None:
        identity = f"{self._chance.getrandbits(64):x}"
        while not self._ended.is_set():
            if await sender.connected():
                self._orders.sent.update(keys)
                if await sender.send(body, identity):
                    self.confirmed.append(keys)
                    return
                self.unconfirmed += 1
            await asyncio.sleep(0.1)


class Sender:
    """A connection, made again after a failure."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker
        self._connection: aio_pika.abc.AbstractConnection | None = None

    async def connected(self) -> bool:
        """Whether it is, after a try."""
        try:
            async with asyncio.timeout(CONFIRM_S):
                if self._connection is None:
                    self._connection = await connected_to(self._broker)
                    self._channel = await self._connection.channel()
                    await self._channel.declare_queue(QUEUE, durable=True, arguments=QUORUM)
                return True
        except FAILURES:
            await self.close()
            return False

    async def send(self, body: bytes, identity: str) -> bool:
        """Whether the broker has confirmed it in time."""
        message = aio_pika.Message(body, message_id=identity, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        try:
            async with asyncio.timeout(CONFIRM_S):
                await self._channel.default_exchange.publish(message, QUEUE)
                return True
        except FAILURES:
            await self.close()
            return False

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                async with asyncio.timeout(1):
                    await connection.close()
            except FAILURES:
                pass  # with the broker


async def connected_to(broker: RabbitMQ) -> aio_pika.abc.AbstractConnection:
    connection = aio_pika.Connection(make_url(broker.url))
    try:
        await connection.connect()
    except BaseException:
        await connection.close()  # or it tries to when it is forgotten, which may be where there is no loop
        raise
    return connection


async def ready(broker: RabbitMQ) -> int:
    """How many messages wait in the queue, without those that a worker has."""
    async with await aio_pika.connect(broker.url) as connection:
        queue = await (await connection.channel()).declare_queue(QUEUE, passive=True)
        return queue.declaration_result.message_count or 0


async def take_dead_letters(broker: RabbitMQ) -> list[tuple[Key, str]]:
    """All of them, with their codes; they are gone then."""
    found: list[tuple[Key, str]] = []
    async with await aio_pika.connect(broker.url) as connection:
        queue = await (await connection.channel()).declare_queue(DEAD_QUEUE, passive=True)
        while (letter := await queue.get(no_ack=True, fail=False)) is not None:
            found.append((key_of(letter.body), str(letter.headers["code"])))
    return found


def key_of(body: bytes) -> Key:
    try:
        entry: Any = json.loads(body)
        return entry["userId"], entry["key"]
    except ValueError:
        return "", body.decode()
