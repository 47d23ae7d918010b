"""The hub, one per process: on a change it reads the board once, encodes it once and gives the frame to all sockets."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from scores import selectors
from scores.board import LEADERBOARD, BoardNames
from scores.exceptions import Unavailable

from . import metrics
from .frame_bytes import Frame, prepared
from .frames import is_stale, leaderboard_update
from .pace import Pace
from .page_order import PageOrder
from .socket_limits import socket_limits
from .socket_writer import SocketWriter

logger = logging.getLogger(__name__)

TOP = 10
LOOK_EVERY_S = 1.0  # without a message: those on the group are lost while Redis reconnects
HEARTBEAT_S = 25.0  # then the current frame again, so that proxies and clients know that the socket is alive
PROVE_EVERY_S = 2.0  # a process that has published nothing meanwhile sees whether it still hears itself
TURN_S = 0.1
HEARD_WITHIN_TURNS = 30  # and not within seconds: a process that was stopped for a while has not failed to hear
FLUSH_TIMEOUT_S = 3.0  # more than one publish to a Redis that is silent, for which a flush waits
RESTART_AFTER_S = 1.0
SLICE = 256  # sockets between two turns of the event loop: about 2 ms

PROOF = "leaderboard.proof"  # the type of a message that only its sender is to hear


class NotHeard(Exception):  # noqa: N818  a state of the group, not an error of the program
    """The group does not bring this process what it publishes there."""


class Hub:
    """Sends the board as it is at the time of sending: a message on the group only wakes the hub."""

    def __init__(self, board: BoardNames) -> None:
        self._board = board
        self._socket_writers: set[SocketWriter] = set()
        self._page: selectors.Page | None = None
        self._order = PageOrder()
        self._read_at = 0.0  # in the loop's clock
        self._frame: Frame | None = None
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._receiving: asyncio.Task[None] | None = None
        self._stopping = False
        self._unpublished = 0  # the newest seq that was announced here
        self._announced: tuple[str, int] | None = None  # the newest epoch and seq that this process has announced
        self._group_fault: str | None = None
        self._wake_others: Callable[[int], object] = lambda seq: None

    @property
    def running(self) -> bool:
        return self._loop is not None

    @property
    def fault(self) -> str | None:
        """Which part of a running hub has ended, until it is started again; `None` if none. Safe in any thread."""
        ended = [name for name, task in self._tasks.copy().items() if task.done()]
        return f"{', '.join(ended)} ended" if ended and not self._stopping else None

    @property
    def group_fault(self) -> str | None:
        """Why the group does not bring this process what is published there; `None` if it does. Safe in any thread."""
        return self._group_fault

    def start(self) -> None:
        """Starts the hub in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._id = uuid.uuid4().hex
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()
        self._to_publish = asyncio.Event()
        metrics.sockets_cap.set(settings.MAX_SOCKETS or 0)
        for name in ("listen", "publish", "push"):
            self._begin(name)

    def _begin(self, name: str) -> None:
        if self._loop is not None and not self._stopping:
            work = {"listen": self._listen, "publish": self._publish, "push": self._push}[name]
            self._tasks[name] = self._loop.create_task(work(), name=f"hub: {name}")
            self._tasks[name].add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        """None of them ends by itself, and each of them catches what fails: a stray cancellation ends it all the same."""
        if self._loop is not None and not self._stopping:
            error = None if task.cancelled() else task.exception()
            logger.error("The hub's task %r ended, and starts again in a second", name, exc_info=error)
            self._loop.call_later(RESTART_AFTER_S, self._begin, name)

    async def stop(self) -> None:
        self._stopping = True
        # More than once: a Redis client that is connecting swallows a cancellation.
        while running := [task for task in (*self._tasks.values(), self._receiving) if task and not task.done()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=0.1)
        self._tasks, self._receiving, self._loop = {}, None, None

    # Sockets

    def join(self, socket_writer: SocketWriter) -> None:
        """Gives `socket_writer` the current frame, without a read of any store, and every later frame."""
        self._socket_writers.add(socket_writer)
        if self._frame is not None:
            socket_writer.offer(self._frame)

    def leave(self, socket_writer: SocketWriter) -> None:
        self._socket_writers.discard(socket_writer)
        socket_writer.close()

    # The group

    def announce(self, origin: str, seq: int) -> None:
        """Wakes the hubs of all processes: the board is at event `seq` of `origin`. Safe in any thread."""
        self._announced = origin, seq
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._announce, seq)

    def committed(self, origin: str, seq: int) -> None:
        """Wakes the hub of this process, which has committed event `seq`, if that was not announced. Safe in any thread.

        A commit is not announced while Redis is away; then the reads of this process see it in the database, and other
        processes look once a second. With the copy moved, this would only cause a second read.
        """
        if self._loop is not None and self._announced != (origin, seq):
            self._loop.call_soon_threadsafe(self._see_commit, seq)

    def _see_commit(self, seq: int) -> None:
        self._changed.set()
        self._wake_others(seq)

    def on_change(self, wake: Callable[[int], object]) -> None:
        """Calls `wake` with the newest seq, or 0 if it is not known, whenever a message or this process wakes the hub."""
        self._wake_others = wake

    def _announce(self, seq: int) -> None:
        self._changed.set()
        self._wake_others(seq)
        self._unpublished = seq  # the newest one stands for all before
        self._to_publish.set()

    async def _publish(self) -> None:
        while True:
            await self._to_publish.wait()
            self._to_publish.clear()
            try:
                await group_send(self._board, self._unpublished, hub=self._id)
            except Exception as error:
                self._group_fails(error)
            # The first message after a pause goes out at once. A hub sends at most once per interval, so it need not be
            # woken much more often.
            await asyncio.sleep(settings.FRAME_INTERVAL_MS / 2000)

    async def _listen(self) -> None:
        """Is in the group, and joins it anew when it does not deliver."""
        layer: Any = get_channel_layer()
        while True:
            try:
                # What the last try has left: the layer keeps a queue for every channel that it ever made, and takes a
                # subscription that Redis refused for one that it has.
                await flushed(layer)
                if self._receiving is not None:
                    self._receiving.cancel()  # after the flush: before, it would unsubscribe, from a Redis that is away
                # Before it joins: a refusal is the answer to this, while the layer only logs that of a subscription.
                await self._send_proof()
                channel = await layer.new_channel()
                await layer.group_add(self._board.group, channel)
                self._receiving = asyncio.create_task(self._receive(layer, channel), name="hub: receive")
                await self._prove(self._receiving)
            except Exception as error:
                self._group_fails(error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _receive(self, layer: Any, channel: str) -> None:
        is_told = False
        while True:
            try:
                message = await layer.receive(channel)
            except (RedisError, OSError):
                raise
            except Exception:  # bytes that the layer cannot read
                if not is_told:
                    logger.warning("Another program writes to the group; its messages wake the hub", exc_info=True)
                is_told, message = True, None
                await asyncio.sleep(0)
            self._hear(message)

    def _hear(self, message: object) -> None:
        """Wakes the hub, whatever the message is, but for its own: what it announced it knows already."""
        sender, kind = (message.get("hub"), message.get("type")) if isinstance(message, dict) else (None, None)
        if sender == self._id:
            self._heard.set()
        elif kind != PROOF:
            self._changed.set()
            seq = message.get("seq") if isinstance(message, dict) else None
            self._wake_others(seq if isinstance(seq, int) else 0)

    async def _prove(self, receiving: asyncio.Task[None]) -> None:
        """Returns never. Raises `NotHeard` when this process does not hear itself, or what Redis raises."""
        while True:
            self._heard.clear()
            await self._send_proof()
            for _ in range(HEARD_WITHIN_TURNS):
                try:
                    async with asyncio.timeout(TURN_S):
                        await self._heard.wait()
                    break
                except TimeoutError:
                    pass
            else:
                raise NotHeard
            self._group_works()
            while self._heard.is_set():  # what it announces is a proof as well
                self._heard.clear()
                await asyncio.sleep(PROVE_EVERY_S)
            if receiving.done():
                raise NotHeard from receiving.exception()

    async def _send_proof(self) -> None:
        layer: Any = get_channel_layer()
        await layer.group_send(self._board.group, {"type": PROOF, "hub": self._id})

    def _group_fails(self, error: Exception) -> None:
        fault = _fault_of(error)
        if fault != self._group_fault:  # once, and not at every try
            unexpected = None if isinstance(error, (RedisError, OSError, NotHeard)) else error
            logger.warning(
                "The group does not deliver (%s): changes of other processes take up to a second to reach the sockets here",
                fault,
                exc_info=unexpected,
            )
        self._group_fault = fault

    def _group_works(self) -> None:
        if self._group_fault is not None:
            logger.info("The group delivers again")
        self._group_fault = None

    # Frames

    async def _push(self) -> None:
        loop = asyncio.get_running_loop()
        pushed_at, pace = loop.time(), Pace()
        while True:
            started = loop.time()
            try:
                if await self._refresh() or (self._page is not None and started - pushed_at >= HEARTBEAT_S):
                    await self._fan_out()
                    pushed_at = started
                if self._page is not None:
                    metrics.observe_shown(self._page.seq, open_sockets=socket_limits.taken, sent=pushed_at == started)
            except Exception:
                logger.exception("The hub failed to send a frame and continues")
            await pace.next_round(started, self._changed, look_every_s=LOOK_EVERY_S)

    async def _refresh(self) -> bool:
        """Reads the top. Returns whether it differs from what the sockets have."""
        before = self._page
        now = asyncio.get_running_loop().time()
        try:
            page = await selectors.top(TOP)
        except Unavailable:  # no store answers: the last page ages
            if before is None:
                return False
            page = before._replace(age_s=before.age_s + now - self._read_at)
        self._read_at = now
        if not self._order.admits(page, now):
            return False  # this source is behind the previous one: frames never go back
        self._page = page
        self._frame = prepared(leaderboard_update(page))
        return before is None or visible_part(page) != visible_part(before)

    async def _fan_out(self) -> None:
        frame = self._frame
        assert frame is not None  # _refresh has set it
        socket_writers = tuple(self._socket_writers)
        metrics.frames_sent.inc(len(socket_writers))
        for start in range(0, len(socket_writers), SLICE):
            for socket_writer in socket_writers[start : start + SLICE]:
                socket_writer.offer(frame)
            await asyncio.sleep(0)


def visible_part(page: selectors.Page) -> tuple[Any, ...]:
    """The part of a page whose change is worth a frame."""
    return page.epoch, page.entries, is_stale(page)


def _fault_of(error: Exception) -> str:
    channels = "the user of Redis may lack &asgi* in its ACL"
    if isinstance(error, NoPermissionError):
        return f"Redis refuses it: {channels}"
    if isinstance(error, NotHeard):
        return f"this process does not hear what it publishes: {channels}, or the right to subscribe"
    if isinstance(error, (RedisError, OSError)) and not isinstance(error, ResponseError):
        return "Redis does not answer"  # without the text, which differs from try to try
    return type(error).__name__


async def flushed(layer: Any) -> None:
    """Flushes the channel layer. Raises `NotHeard` if that does not end in time.

    The layer cancels its receiver once and waits for its end, but a Redis client that is connecting may swallow that. Then
    it would wait for ever, with the lock that a publish needs.
    """
    flushing = asyncio.create_task(layer.flush(), name="hub: flush")
    try:
        while not (await asyncio.wait({flushing}, timeout=FLUSH_TIMEOUT_S))[0]:
            flushing.cancel()  # and with it the receiver, once more
    finally:
        flushing.cancel()
    if flushing.cancelled():
        raise NotHeard
    flushing.result()


async def group_send(board: BoardNames, seq: int, *, hub: str = "") -> None:
    """Publishes to the group of `board` that it is at event `seq`; `hub` has announced it. Raises what Redis raises."""
    layer: Any = get_channel_layer()
    await layer.group_send(board.group, {"type": "leaderboard.changed", "seq": seq, "hub": hub})


hub = Hub(LEADERBOARD)
