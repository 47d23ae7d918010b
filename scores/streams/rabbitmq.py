"""RabbitMQ, by AMQP 0.9.1. The library is for asyncio: its connection lives in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from uuid import uuid4

import aio_pika
from aiormq import spec
from aiormq.exceptions import AMQPError

from .broker import CONFIRM_S, Broker, BrokerFailed, Delivery, Message

Result = TypeVar("Result")

CONNECT_S = 5.0
GRACE_S = 1.0  # for the end of what has taken too long
FAREWELL_S = 1.0  # that a broker has to answer when a connection is closed
# Of messages that wait for their confirmation. More would only fill the broker's buffers.
WINDOW = 500
FEWEST = 10  # messages that a process has at once, however large they are
FAILURES = (AMQPError, OSError, TimeoutError, asyncio.CancelledError, RuntimeError)
# A queue on several nodes, on disk. Classic ones lose what is in memory, and are not replicated.
QUORUM: Any = {"x-queue-type": "quorum"}

Declare = Callable[[aio_pika.abc.AbstractChannel, str, bool], Awaitable[object]]  # with `passive`: only look for it


async def declare_queue(channel: aio_pika.abc.AbstractChannel, name: str, passive: bool) -> None:
    await channel.declare_queue(name, passive=passive, durable=True, arguments=None if passive else QUORUM)


async def declare_exchange(channel: aio_pika.abc.AbstractChannel, name: str, passive: bool) -> None:
    await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, passive=passive, durable=True)


class Line:
    """A connection with a channel, made again by whoever needs it after it broke.

    `declare` looks for what the name stands for, or makes it.
    """

    def __init__(self, broker: Broker, name: str, declare: Declare, *, confirms: bool) -> None:
        self._broker = broker
        self._name = name
        self._declare_one = declare
        self._confirms = confirms
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"amqp {name}", daemon=True)
        self._thread.start()
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._connecting = asyncio.Lock()
        self.channel: Any = None  # of the library below, which takes batches with less work

    def run(self, work: Callable[[], Coroutine[Any, Any, Result]], timeout_s: float) -> Result:
        """Run `work` in the loop, with a channel. Raises `BrokerFailed`, and the connection is closed then."""
        future = asyncio.run_coroutine_threadsafe(self._with_channel(work, timeout_s), self._loop)
        try:
            return future.result(CONNECT_S + timeout_s + GRACE_S)
        except (TimeoutError, CancelledError) as error:
            # Work of the library that waits for a connection which is lost may not end when it is cancelled. It may be the
            # one that connects.
            future.cancel()
            self._connecting = asyncio.Lock()
            asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop)
            raise BrokerFailed("RabbitMQ's client does not answer") from error

    @property
    def is_open(self) -> bool:
        return self.channel is not None and not self.channel.is_closed

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _with_channel(self, work: Callable[[], Coroutine[Any, Any, Result]], timeout_s: float) -> Result:
        channel = self.channel
        try:
            async with asyncio.timeout(CONNECT_S), self._connecting:  # two threads may find it closed at once
                if not self.is_open:
                    await self._connect()
            channel = self.channel
            async with asyncio.timeout(timeout_s):
                return await work()
        except FAILURES as error:
            if self.channel is channel:  # and not one that another thread has opened meanwhile
                await self._disconnect()
            raise BrokerFailed(str(error) or type(error).__name__) from error

    async def _connect(self) -> None:
        await self._disconnect()
        # Not by the library's function: of a connection that fails it would keep nothing that can be closed, and complain.
        self._connection = aio_pika.Connection(aio_pika.connection.make_url(self._broker.url))
        await self._connection.connect(timeout=CONNECT_S)
        await self._declare(self._connection)
        channel = await self._connection.channel(publisher_confirms=self._confirms)
        self.channel = await channel.get_underlay_channel()

    async def _declare(self, connection: aio_pika.abc.AbstractConnection) -> None:
        """Make what there is none of: an operator's may have limits and policies of its own."""
        try:
            channel = await connection.channel()
            await self._declare_one(channel, self._name, True)
        except aio_pika.exceptions.ChannelNotFoundEntity:  # which also closes the channel
            channel = await connection.channel()
            await self._declare_one(channel, self._name, False)
        await channel.close()

    async def _end(self) -> None:
        """Disconnect, and end what the library has begun, such as a farewell that a broker does not answer."""
        await self._disconnect()
        for _ in range(3):  # some of its tasks say farewell when they are cancelled first
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if not tasks or not (await asyncio.wait(tasks, timeout=FAREWELL_S))[1]:
                break

    async def _disconnect(self) -> None:
        connection, self._connection, self.channel = self._connection, None, None
        if connection is not None:
            # Not awaited itself: the library waits for the broker's answer also when it is cancelled.
            farewell = asyncio.ensure_future(connection.close())
            farewell.add_done_callback(_forget)
            await asyncio.wait({farewell}, timeout=FAREWELL_S)


def _forget(task: asyncio.Future[None]) -> None:
    """Take note of the error of a connection that was gone already, or asyncio would log it."""
    if not task.cancelled():
        task.exception()


class RabbitSource:
    """Without an acknowledgement there are at most twice as many messages here as were ever asked for at once, or `FEWEST`.

    The others of a long queue are for other processes, also where each message has hundreds of entries.
    """

    def __init__(self, broker: Broker, name: str) -> None:
        self._name = name
        self._prefetch = 0  # of all consumers together
        self._line = Line(broker, name, declare_queue, confirms=False)
        self._channel: Any = None  # from which messages come
        self._arrived: SimpleQueue[Delivery] = SimpleQueue()

    def receive(self, most: int, timeout_s: float) -> list[Delivery]:
        if self._channel is None or self._channel is not self._line.channel or not self._line.is_open:
            self._arrived = SimpleQueue()  # the broker sends again what was not acknowledged
            self._prefetch = max(self._prefetch, 2 * most, FEWEST)
            self._line.run(lambda: self._consume(self._prefetch), CONNECT_S)
        elif self._prefetch < most:  # at least twice as many then, so it needs few consumers
            more = 2 * most - self._prefetch
            self._line.run(lambda: self._consume(more), CONNECT_S)
            self._prefetch += more
        deliveries: list[Delivery] = []
        try:
            deliveries.append(self._arrived.get(timeout=timeout_s))
            while len(deliveries) < most:
                deliveries.append(self._arrived.get_nowait())
        except Empty:
            pass
        return deliveries

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        channel, tag = deliveries[-1].handle
        if channel is self._line.channel:  # or the broker has them back already

            async def acknowledge() -> None:
                await channel.basic_ack(tag, multiple=True)

            self._line.run(acknowledge, CONFIRM_S)

    def close(self) -> None:
        self._line.close()

    async def _consume(self, prefetch: int) -> None:
        """Add a consumer. One that is there already keeps its number, and may not end: messages could be on their way to it,
        which nobody would see, and the next acknowledgement would include."""
        channel, arrived = self._line.channel, self._arrived

        async def take(message: Any) -> None:
            delivery = message.delivery
            place = message.header.properties.message_id or ""
            arrived.put(Delivery(message.body, place, not delivery.redelivered, (channel, delivery.delivery_tag)))

        await channel.basic_qos(prefetch_count=prefetch)
        await channel.basic_consume(self._name, take)
        self._channel = channel


class RabbitSink:
    """Writes to a queue, by the default exchange."""

    declare: Declare = staticmethod(declare_queue)
    # Mandatory: without it the broker confirms what it could not put anywhere.
    is_mandatory = True

    def __init__(self, broker: Broker, name: str) -> None:
        self._line = Line(broker, name, self.declare, confirms=True)
        self._name = name

    def open(self) -> None:
        self._line.run(self._look, CONNECT_S)

    def send(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), WINDOW):
            window = messages[start : start + WINDOW]
            self._line.run(lambda window=window: self._publish(window), CONFIRM_S)  # type: ignore[misc]

    def close(self) -> None:
        self._line.close()

    def address(self, message: Message) -> tuple[str, str]:
        """The exchange and the routing key."""
        return "", self._name

    async def _look(self) -> None:
        """What the name stands for is made with the connection."""

    async def _publish(self, messages: Sequence[Message]) -> None:
        """In the order of `messages`: tasks begin in the order in which they are made, and wait for the channel in it."""
        channel = self._line.channel
        await asyncio.gather(*(self._publish_one(channel, message) for message in messages))

    async def _publish_one(self, channel: Any, message: Message) -> None:
        properties = spec.Basic.Properties(
            content_type=message.content_type,
            delivery_mode=2,  # on disk
            headers=dict(message.headers),
            message_id=message.id or uuid4().hex,
        )
        exchange, routing_key = self.address(message)
        confirmation = await channel.basic_publish(
            message.body,
            exchange=exchange,
            routing_key=routing_key,
            properties=properties,
            mandatory=self.is_mandatory,
        )
        if not isinstance(confirmation, spec.Basic.Ack):
            raise BrokerFailed(f"RabbitMQ has not taken a message: {type(confirmation).__name__}")


class RabbitExchange(RabbitSink):
    """Writes to a topic exchange. What nobody is bound to is confirmed, and gone: whoever wants it binds a queue first."""

    declare = staticmethod(declare_exchange)
    is_mandatory = False

    def address(self, message: Message) -> tuple[str, str]:
        return self._name, message.topic
