"""The bridge between the event loop and blocking stores: one thread takes all waiting items as one batch."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import wait
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from django.db import connections

from scores.exceptions import OutcomeUnknown, Overloaded, Unavailable

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Group:
    """The answers to items that were submitted together; `future` has them when the last one is there."""

    def __init__(self, count: int, future: asyncio.Future[Any]) -> None:
        self.answers: list[Any] = [None] * count
        self.future = future
        self._left = set(range(count))

    def put(self, place: int, answer: Any) -> None:
        self.answers[place] = answer
        self._left.discard(place)
        if not self._left and not self.future.done():
            self.future.set_result(self.answers)

    def give_up(self, late: type[Unavailable]) -> None:
        """Put `late` where there is no answer yet."""
        for place in list(self._left):
            self.put(place, late())


class _Part:
    """One item's share of a group: as much of a future as the batcher needs."""

    __slots__ = ("_group", "_place")

    def __init__(self, group: _Group, place: int) -> None:
        self._group = group
        self._place = place

    def done(self) -> bool:
        return self._group.future.done()

    def set_result(self, answer: Any) -> None:
        self._group.put(self._place, answer)

    set_exception = set_result  # an exception is one of the answers


class _Ticket:
    """An item, and the futures that wait for its answer: of one event loop, or of one thread."""

    __slots__ = ("futures", "item", "loop", "started")

    def __init__(
        self, item: Any, future: asyncio.Future[Any] | ThreadFuture[Any] | _Part, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.item = item
        self.futures: list[Any] = [future]
        self.loop = loop  # None: a thread waits for the answer
        self.started = False

    def start(self) -> bool:
        """Mark the item as started; returns whether a caller still waits.

        If all have timed out, the work must not be done: they were told that nothing was confirmed.
        """
        self.started = True  # before the work: a later caller may have seen a newer state than the work will see
        if self.loop is None:
            # From here on `cancel` is too late, so that the answer cannot meet a future that is cancelled at the same
            # time.
            return bool(self.futures[0].set_running_or_notify_cancel())
        return not all(future.done() for future in self.futures)


class Batcher(Generic[Item, Answer]):
    """Runs `work(items)` in its own thread on all waiting items, up to `max_batch` at a time.

    There is no timer: a single item is processed at once, and the items that arrive while a batch runs are the next
    batch. So batches grow exactly when that pays (the idea is PostgreSQL's own group commit).

    `work` returns one answer per item, in order. An exception among the answers is raised for that item's caller only;
    an exception that `work` raises is raised for all callers. Work that ends in any other way, with `SystemExit` or with
    too few answers, is `OutcomeUnknown` for all of them, and the thread goes on.

    `share` is for work that only reads: callers with equal items wait for one answer, from work that starts after all
    of them have asked. It is called for each caller that joins another. `late` is raised after `timeout_s`.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        *,
        max_batch: int,
        max_queued: int,
        timeout_s: float,
        share: Callable[[], object] | None = None,
        late: type[Unavailable] = OutcomeUnknown,
    ) -> None:
        self._name = name
        self._work = work
        self._max_batch = max_batch
        self._max_queued = max_queued  # items beyond this are refused: an unbounded queue only uses memory
        self._timeout_s = timeout_s
        self._share = share
        self._late = late
        self._shared: dict[Item, _Ticket] = {}
        self._waiting: SimpleQueue[_Ticket | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = 0  # in which the thread runs: in one that was forked since, there is none
        self._starting = threading.Lock()

    async def submit(self, item: Item) -> Answer:
        """The answer to `item`. Raises `Overloaded`, or `late` after `timeout_s` without an answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        ticket = self._shared.get(item)
        if ticket is not None and not ticket.started and ticket.loop is loop:
            ticket.futures.append(future)
            self._share()  # type: ignore[misc]  # set, or the ticket would not be in `_shared`
        else:
            self._look_for_room(1)
            self._put(ticket := _Ticket(item, future, loop))
            if self._share is not None:
                self._shared[item] = ticket
        # A plain timer is cheaper than `asyncio.timeout`, and every request passes here.
        timer = loop.call_later(self._timeout_s, _time_out, future, self._late)
        try:
            return await future
        finally:
            timer.cancel()
            if self._shared.get(item) is ticket:
                del self._shared[item]

    async def submit_all(self, items: Sequence[Item]) -> list[Answer | Exception]:
        """`submit` for many items at once: the answer to each, or the error in its place. Raises `Overloaded`: none began.

        One future for all of them; a thousand would cost the loop more than the items cost the batcher.
        """
        if not items:
            return []
        self._look_for_room(len(items))
        loop = asyncio.get_running_loop()
        group = _Group(len(items), loop.create_future())
        for place, item in enumerate(items):
            self._put(_Ticket(item, _Part(group, place), loop))
        timer = loop.call_later(self._timeout_s, group.give_up, self._late)
        try:
            answers: list[Answer | Exception] = await group.future
            return answers
        finally:
            timer.cancel()

    def submit_and_wait(self, item: Item, timeout_s: float | None = None) -> Answer:
        """`submit` for code without an event loop: commands, the admin, other threads."""
        future: ThreadFuture[Answer] = ThreadFuture()
        self._look_for_room(1)
        self._put(_Ticket(item, future, None))
        try:
            return future.result(self._timeout_s if timeout_s is None else timeout_s)
        except TimeoutError as error:
            future.cancel()
            raise self._late from error

    def submit_all_and_wait(self, items: Sequence[Item]) -> list[Answer | Exception]:
        """`submit_and_wait` for many items at once: the answer to each, or the error in its place."""
        self._look_for_room(len(items))
        due_at = time.monotonic() + self._timeout_s
        futures: list[ThreadFuture[Any]] = []
        for item in items:
            futures.append(ThreadFuture())
            self._put(_Ticket(item, futures[-1], None))
        wait(futures, due_at - time.monotonic())
        return [self._outcome(future) for future in futures]

    def close(self, timeout_s: float = 10.0) -> None:
        """Process the waiting items, then end the thread; waits for that at most `timeout_s`."""
        thread = self._thread
        if thread is not None:
            if thread.is_alive():
                self._waiting.put(None)
                thread.join(timeout_s)
            self._thread, self._process = None, 0

    def _look_for_room(self, count: int) -> None:
        if self._waiting.qsize() + count > self._max_queued:
            raise Overloaded

    def _put(self, ticket: _Ticket) -> None:
        self._waiting.put(ticket)
        if self._process != os.getpid():  # `is_alive` would cost a fiftieth of the bridge
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._process != os.getpid():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
                self._process = os.getpid()

    def _run(self) -> None:
        is_open = True
        while is_open:
            try:
                is_open = self._run_batch()
            except BaseException:  # nobody else would start the thread again before the next item comes
                logger.exception("%s: a batch was lost, its callers time out", self._name)
        connections.close_all()  # Django keeps one per thread

    def _run_batch(self) -> bool:
        """Waits for items and answers them. Returns whether more are to come."""
        if (ticket := self._waiting.get()) is None:
            return False
        tickets = [ticket]
        try:
            while len(tickets) < self._max_batch:
                if (ticket := self._waiting.get_nowait()) is None:
                    self._waiting.put(None)  # ends the thread after this batch
                    break
                tickets.append(ticket)
        except Empty:
            pass
        tickets = [t for t in tickets if t.start()]
        if tickets:
            self._settle(tickets, self._answers([t.item for t in tickets]))
        return True

    def _answers(self, items: list[Item]) -> Sequence[Answer | Exception]:
        try:
            answers = self._work(items)
        except BaseException as error:
            # A future takes no StopIteration, and with any other that is no `Exception` the thread would end.
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                logger.debug("%s: a batch of %d failed", self._name, len(items), exc_info=True)
                return [error] * len(items)
            logger.exception("%s: the work on a batch of %d broke off", self._name, len(items))
        else:
            if len(answers) == len(items):
                return answers
            logger.error("%s: %d answers to a batch of %d", self._name, len(answers), len(items))
        return [OutcomeUnknown()] * len(items)

    def _settle(self, tickets: list[_Ticket], answers: Sequence[Answer | Exception]) -> None:
        # One wake-up per loop, not per answer: each wake-up writes to the loop's self-pipe.
        by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[_Ticket, Answer | Exception]]] = defaultdict(list)
        for ticket, answer in zip(tickets, answers, strict=True):  # `_answers` has counted them
            by_loop[ticket.loop].append((ticket, answer))
        for loop, pairs in by_loop.items():
            if loop is None:
                self._resolve(pairs)
            else:
                try:
                    loop.call_soon_threadsafe(self._resolve, pairs)
                except RuntimeError:  # the loop is closed
                    logger.warning("%s: dropped %d answers because the event loop is closed", self._name, len(pairs))

    def _outcome(self, future: ThreadFuture[Any]) -> Any:
        if not future.done():
            future.cancel()
            return self._late()
        error = future.exception()
        return future.result() if error is None else error

    @staticmethod
    def _resolve(pairs: list[tuple[_Ticket, Answer | Exception]]) -> None:
        for ticket, answer in pairs:
            for future in ticket.futures:
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)


def _time_out(future: asyncio.Future[Any], late: type[Unavailable]) -> None:
    if not future.done():
        future.set_exception(late())
