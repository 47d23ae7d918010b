"""Publishing: how fast a long log reaches a broker, with a confirmation for each message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leaderboard_site.local import DataDirectory
from tools.kafka import Kafka, Noida, Tansu
from tools.servers import ROOT
from tools.stores import RabbitMQ

from .exports import fill
from .figures import Row
from .usage import usage
from .world import World

TOPIC = "bench.events"
BATCHES = (1, 100)
# As the follow process does it, without the other followers. A queue is bound, so that the broker has what to keep.
PUBLISH = """
import asyncio, json, sys, time, django
django.setup()
import aio_pika
from django.conf import settings
from scores.log.head import log
from scores.log.lease import Lease
from scores.models import Follower
from scores.streams.broker import stream
from scores.streams.publish import Publisher

async def bind():
    async with await aio_pika.connect(settings.BROKER.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(settings.PUBLISH_TO, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.purge()
        await queue.bind(settings.PUBLISH_TO, "#")

Follower.objects.all().delete()
lease = Lease(log, "publish", is_dedicated=True)
sink = stream(settings.PUBLISH_TO)
publisher = Publisher(log, lease, sink, batch=settings.PUBLISH_BATCH)
sink.open()
if settings.BROKER.kind == "rabbitmq":
    asyncio.run(bind())
started, cpu = time.perf_counter(), time.process_time()
while lease.hold() and publisher.publish():
    pass
took, cpu = time.perf_counter() - started, time.process_time() - cpu
assert Follower.objects.get().seq == log.head().seq
publisher.end()
print(json.dumps({"took": took, "cpu": cpu}))
"""


def publish(world: World, events: int) -> Iterator[Row]:
    """All of a log, event by event and a hundred in a message, to RabbitMQ and to both brokers of Kafka's protocol."""
    fill(world, events)
    with rabbitmq(world.folder) as broker:
        yield from rounds(world, events, "RabbitMQ", broker.url, broker.pid)
    for kind in (Noida, Tansu):
        with kafka(kind, world.folder / kind.__name__) as other:
            yield from rounds(world, events, kind.__name__, other.url, other.process.pid)


def rounds(world: World, events: int, name: str, url: str, pid: int) -> Iterator[Row]:
    for batch in BATCHES:
        before = usage(pid).cpu_s
        found = run(world, url, batch)
        row = Row("publish", f"{name}, {batch} to a message")
        row.add("rate", events / found["took"], "events/s")
        row.add("took", found["took"], "s")
        row.add("CPU", 1e6 * found["cpu"] / events, "µs each")
        row.add("CPU of the broker", 1e6 * (usage(pid).cpu_s - before) / events, "µs each")
        yield row


def run(world: World, url: str, batch: int) -> dict[str, float]:
    env = world.env | {"BROKER_URL": url, "PUBLISH": "on", "PUBLISH_TO": TOPIC, "PUBLISH_BATCH": str(batch)}
    ended = subprocess.run(
        [sys.executable, "-c", PUBLISH], cwd=ROOT, env=os.environ | env, check=True, stdout=subprocess.PIPE
    )
    found: dict[str, float] = json.loads(ended.stdout)
    return found


@contextmanager
def rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    broker = RabbitMQ(DataDirectory(folder / "rabbitmq"))
    broker.boot()
    try:
        yield broker
    finally:
        broker.stop()


@contextmanager
def kafka(kind: Any, folder: Path) -> Iterator[Kafka]:
    folder.mkdir()
    broker: Kafka = kind(folder)
    broker.boot()
    broker.make_topics(TOPIC)
    try:
        yield broker
    finally:
        broker.kill()
