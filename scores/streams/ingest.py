"""Ingestion: drains a queue through the writer, in batches, and acknowledges what is committed.

A message may come twice, from the broker or because this process died before it acknowledged. The key of each entry makes
that a replay, so an entry counts once however often it comes. The order after a commit is: what was refused is written
down, dead letters are sent and confirmed, and the messages are acknowledged. Each step may be repeated.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from django.db import Error as DatabaseError
from django.db import connections

from scores import metrics
from scores.exceptions import DATABASE_AWAY, OutcomeUnknown, Refused, ScoreError
from scores.log import writer
from scores.log.ledger import Change, Recorded

from . import refusals
from .broker import BrokerFailed, Delivery, Sink, Source
from .messages import Entry, dead_letter, entries_of
from .outage import Outage
from .refusals import Refusal

logger = logging.getLogger(__name__)

LOOK_S = 0.5  # for messages, between two looks whether to end
PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0  # before a store is asked again
MAX_PLACE = 300  # characters that are kept
TRIES = 5  # of a change that cannot be recorded, alone

Outcome = Recorded | Exception
Record = Callable[[Sequence[Change]], list[Outcome]]
Result = TypeVar("Result")


class Ended(Exception):  # noqa: N818  names what happened
    """The process ends while a store is away. The messages come again."""


class Arrived(NamedTuple):
    """An entry, and the message that it came in."""

    entry: Entry
    delivery: Delivery


class Ingest:
    """Moves messages from `source` into the log, and refused entries to `dead_letters`, until `ended` is set.

    `batch` changes are a transaction. `record` is the writer's, and `name` the queue's.
    """

    def __init__(
        self,
        source: Source,
        dead_letters: Sink,
        record: Record,
        ended: threading.Event,
        *,
        name: str,
        batch: int,
    ) -> None:
        self._source = source
        self._dead_letters = dead_letters
        self._record = record
        self._name = name
        self._batch = batch
        self._per_message = batch  # entries, as of late: so that a portion is about a batch
        self._ended = ended
        self._broker_outage = Outage("the broker", metrics.broker_away)
        self._database_outage = Outage("PostgreSQL")

    def run(self) -> None:
        """Drain the queue. At the end, what is being recorded is finished and acknowledged.

        The next portion is decoded while one commits.
        """
        try:
            self._insist(self._dead_letters.open)  # whoever looks for dead letters finds that there are none
            self._drain()
        except Ended:
            pass
        self._source.close()
        self._dead_letters.close()
        connections.close_all()

    def _drain(self) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="decode") as ahead:
            upcoming: Future[list[Arrived]] = ahead.submit(self._receive)
            while not self._ended.is_set():
                portion = upcoming.result()
                upcoming = ahead.submit(self._receive)
                if portion:
                    self._settle(portion)

    def _receive(self) -> list[Arrived]:
        """The entries of whole messages, about a batch of them if there are as many."""
        portion: list[Arrived] = []
        try:
            while len(portion) + self._per_message <= self._batch or not portion:
                most = max((self._batch - len(portion)) // self._per_message, 1)
                deliveries = self._source.receive(most, 0 if portion else LOOK_S)
                for delivery in deliveries:
                    portion += [Arrived(entry, delivery) for entry in entries_of(delivery.body)]
                if not deliveries:
                    break
                self._per_message = max(len(portion) // _count(portion), 1)
            self._broker_outage.ended()
        except BrokerFailed as error:
            self._broker_outage.goes_on(error)
            self._ended.wait(PAUSE_S)
        return portion

    def _settle(self, portion: Sequence[Arrived]) -> None:
        """Record what is asked for, put the refused aside, and acknowledge the messages."""
        try:
            outcomes = self._outcomes(portion)
            refused = [(a, o) for a, o in zip(portion, outcomes, strict=True) if not isinstance(o, Recorded)]
            if refused:
                self._put_aside(refused)
            self._source.acknowledge([arrived.delivery for arrived in portion])
            metrics.ingested_messages.inc(_count(portion))
        except Ended:
            logger.info("Ends while a store is away: %d messages will come again", _count(portion))
        except BrokerFailed as error:
            logger.warning("Messages that are recorded will come again: %s", error)

    def _outcomes(self, portion: Sequence[Arrived]) -> list[Outcome]:
        """The record or error of each entry."""
        before = self._insist(lambda: _refused_before(portion))
        asked = [
            arrived.entry.change
            for place, arrived in enumerate(portion)
            if isinstance(arrived.entry.change, Change) and place not in before
        ]
        recorded: list[Outcome] = []
        for start in range(0, len(asked), self._batch):
            recorded += self._record_all(asked[start : start + self._batch])
        answers = iter(recorded)
        outcomes: list[Outcome] = []
        for place, arrived in enumerate(portion):
            change = arrived.entry.change
            outcomes.append(before.get(place) or (next(answers) if isinstance(change, Change) else change))
        return outcomes

    def _record_all(self, changes: Sequence[Change]) -> list[Outcome]:
        """Record `changes` in one transaction; again and again while the database is away, since it may have happened."""
        tries = 0
        while True:
            tries += 1
            try:
                outcomes = self._record(changes)
                break
            except Exception as error:
                if isinstance(error, OutcomeUnknown) or isinstance(error.__cause__, DATABASE_AWAY):
                    self._database_outage.goes_on(error.__cause__ or error)
                elif len(changes) > 1:
                    # Something in them that the database, or this code, cannot take. The others must not wait for it.
                    half = len(changes) // 2
                    return [*self._record_all(changes[:half]), *self._record_all(changes[half:])]
                elif tries >= TRIES:
                    logger.exception("A change of %s cannot be recorded", changes[0].user_id)
                    return [error]
            self._pause(tries)
        self._database_outage.ended()
        writer.count(changes, outcomes)
        return outcomes

    def _put_aside(self, refused: Sequence[tuple[Arrived, Exception]]) -> None:
        kept = [
            Refusal(change.user_id, change.idempotency_key or "", arrived.delivery.place[:MAX_PLACE], error)
            for arrived, error in refused
            if isinstance(change := arrived.entry.change, Change) and isinstance(error, Refused)
        ]
        self._insist(lambda: refusals.save(kept))
        letters = [dead_letter(arrived.entry, error, self._name) for arrived, error in refused]
        self._insist(lambda: self._dead_letters.send(letters))
        metrics.add_each(metrics.dead_letters, [letter.headers["code"] for letter in letters])

    def _insist(self, work: Callable[[], Result]) -> Result:
        """Do `work` once a store allows it. Raises `Ended`."""
        tries = 0
        while True:
            try:
                return work()
            except DatabaseError as error:
                connections.close_all()
                self._database_outage.goes_on(error)
            except BrokerFailed as error:
                self._broker_outage.goes_on(error)
            tries += 1
            self._pause(tries)

    def _pause(self, tries: int) -> None:
        if self._ended.wait(min(PAUSE_S * 2 ** (tries - 1), LONGEST_PAUSE_S)):
            raise Ended


def _count(portion: Sequence[Arrived]) -> int:
    """How many messages they are."""
    return len({id(arrived.delivery) for arrived in portion})


def _refused_before(portion: Sequence[Arrived]) -> dict[int, ScoreError]:
    """By place in the portion: the refusal of an entry whose message has come before, up to there at least.

    It is decided. To decide anew could record what a dead letter says was refused, since cooldowns end. Messages that were
    new when they came are looked up as well: while they waited here their line may have broken, and the broker has given
    them to another process, which was faster. Without an id only the broker's word tells a message from a later one.
    """
    asked = {
        place: (arrived.entry.change.user_id, arrived.entry.change.idempotency_key or "")
        for place, arrived in enumerate(portion)
        if isinstance(arrived.entry.change, Change) and (arrived.delivery.place or not arrived.delivery.is_new)
    }
    known = refusals.known(list(asked.values()))
    return {
        place: known[key][1]
        for place, key in asked.items()
        if key in known and known[key][0] == portion[place].delivery.place[:MAX_PLACE]
    }
