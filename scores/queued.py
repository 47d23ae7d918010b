"""Increments that are accepted now and counted soon: put into the queue of the broker, which `ingest` drains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.conf import settings
from django.db import Error as DatabaseError

from . import metrics
from .exceptions import BrokerAway, NoStoreAnswers, RefusedBefore
from .log.arrays import texts
from .log.head import log
from .log.ledger import Change
from .log.writer import KEYED_SQL
from .stores.batcher import Batcher
from .streams import refusals
from .streams.broker import BrokerFailed, Message, Sink, sink
from .streams.messages import queued
from .streams.outage import Outage

CONFIRMED_WITHIN_S = 1.8  # or the request is answered 503


class Counted(NamedTuple):
    """The event that a key stands for. `result` is the total after it, or in the stream of a board the score."""

    seq: int
    result: int
    stream: str | None
    origin: str


Asked = tuple[str, str]  # a user and a key
Outcome = Counted | RefusedBefore | None  # `None`: neither yet


class Queue:
    """Publishes what waits, all of it at once. The process's connection to the broker is made when it is first needed."""

    def __init__(self) -> None:
        self._sink: Sink | None = None
        self._outage = Outage("the broker", metrics.broker_away)
        self.batcher: Batcher[Change, bool] = Batcher(
            "queue", self._publish, max_batch=500, max_queued=20_000, timeout_s=CONFIRMED_WITHIN_S, late=BrokerAway
        )

    def stop(self) -> None:
        self.batcher.close()
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _publish(self, changes: Sequence[Change]) -> list[bool | Exception]:
        messages: list[Message] = [queued(change) for change in changes]
        if self._sink is None:
            self._sink = sink(settings.INGEST_QUEUE)
        try:
            self._sink.send(messages)
        except BrokerFailed as error:
            self._outage.goes_on(error)
            raise BrokerAway from error
        self._outage.ended()
        return [True] * len(messages)


queue = Queue()


async def enqueue(change: Change) -> None:
    """Return when the broker has confirmed an increment that a player asks for, which has a key.

    Raises `BrokerAway`, and `Overloaded`.
    """
    await queue.batcher.submit(change)


async def outcome(user_id: str, key: str) -> Outcome:
    """What became of a change of this user with this key. Raises `NoStoreAnswers`."""
    try:
        return await outcomes.submit((user_id, key))
    except DatabaseError as error:
        raise NoStoreAnswers from error


def outcomes_of(asked: Sequence[Asked]) -> list[Outcome | Exception]:
    """The outcomes of several. The log decides: a refusal may be older than a second try that was recorded."""
    connection = log.connection
    try:
        origin = log.head().origin
        with connection.cursor() as cursor:
            cursor.execute(KEYED_SQL, [*map(texts, zip(*asked, strict=True))])
            events = {(user, key): event for user, key, *event in cursor.fetchall()}
        refused = refusals.known([wanted for wanted in asked if wanted not in events])
    except DatabaseError:
        connection.close()
        raise
    found: list[Outcome | Exception] = []
    for wanted in asked:
        if wanted in events:
            seq, points, total, _, stream = events[wanted]
            found.append(Counted(seq, total if stream is None else points, stream, origin))
        else:
            found.append(refused[wanted][1] if wanted in refused else None)
    return found


outcomes: Batcher[Asked, Outcome] = Batcher(
    "outcomes", outcomes_of, max_batch=256, max_queued=20_000, timeout_s=1.8, late=NoStoreAnswers
)
