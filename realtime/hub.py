"""The hub, one per process: on a change it reads the board once, encodes it once and gives the frame to all sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from redis.exceptions import RedisError

from scores import selectors
from scores.board import LEADERBOARD, Board
from scores.exceptions import Unavailable

from . import metrics
from .frame_bytes import Frame, prepared
from .frames import is_stale, leaderboard_update
from .socket_writer import SocketWriter

logger = logging.getLogger(__name__)

TOP = 10
LOOK_EVERY_S = 1.0  # without a message: those on the group are lost while Redis reconnects
HEARTBEAT_S = 25.0  # then the current frame again, so that proxies and clients know that the socket is alive
SLICE = 256  # sockets between two turns of the event loop: about 2 ms
STRETCH = 1.25  # the shortest interval between two rounds of sending, in durations of the round before
EARLY = 0.2  # of the interval: by up to this much, a round comes earlier to make up for a late one


class Hub:
    """Sends the board as it is at the time of sending: a message on the group only wakes the hub."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._socket_writers: set[SocketWriter] = set()
        self._page: selectors.Page | None = None
        self._read_at = 0.0  # in the loop's clock
        self._frame: Frame | None = None
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._unpublished = 0  # the newest seq that was announced here

    @property
    def running(self) -> bool:
        return self._loop is not None

    @property
    def sockets(self) -> int:
        """How many sockets this process has open. Safe in any thread."""
        return len(self._socket_writers)

    def start(self) -> None:
        """Starts the hub in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._to_publish = asyncio.Event()
        metrics.sockets_cap.set(settings.MAX_SOCKETS or 0)
        self._tasks = [self._loop.create_task(work()) for work in (self._listen, self._publish, self._push)]

    async def stop(self) -> None:
        running = set(self._tasks)
        while running:  # more than once: a Redis client that is connecting swallows a cancellation
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=0.1)
        self._tasks, self._loop = [], None

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

    def announce(self, seq: int) -> None:
        """Wakes the hubs of all processes, this one included: the board is at event `seq`. Safe in any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._announce, seq)

    def _announce(self, seq: int) -> None:
        self._unpublished = seq
        self._to_publish.set()

    async def _publish(self) -> None:
        while True:
            await self._to_publish.wait()
            self._to_publish.clear()
            try:
                await group_send(self._board, self._unpublished)
            except (RedisError, OSError) as error:
                logger.warning("Could not publish to the group; every hub reads the board within a second: %s", error)
            # The first message after a pause goes out at once. A hub sends at most once per interval, so it need not be
            # woken much more often.
            await asyncio.sleep(settings.FRAME_INTERVAL_MS / 2000)

    async def _listen(self) -> None:
        layer: Any = get_channel_layer()
        channel: str | None = None
        while True:
            try:
                # One channel for all tries: the layer keeps a queue for every channel it ever made. Once the group is
                # joined, the layer reconnects by itself.
                channel = channel or await layer.new_channel()
                await layer.group_add(self._board.group, channel)
                while True:
                    await layer.receive(channel)
                    self._changed.set()
            except (RedisError, OSError) as error:
                logger.warning("Could not join the group; next try in a second: %s", error)
            except Exception:  # for example, a foreign message on the group
                logger.exception("The hub failed to listen to the group and continues")
            await asyncio.sleep(LOOK_EVERY_S)

    # Frames

    async def _push(self) -> None:
        loop = asyncio.get_running_loop()
        pushed_at = due = loop.time()
        while True:
            started = loop.time()
            try:
                if await self._refresh() or (self._page is not None and started - pushed_at >= HEARTBEAT_S):
                    await self._fan_out()
                    pushed_at = started
                if self._page is not None:
                    metrics.observe_shown(
                        self._page.seq, open_sockets=len(self._socket_writers), sent=pushed_at == started
                    )
            except Exception:
                logger.exception("The hub failed to send a frame and continues")
            interval_s = max(settings.FRAME_INTERVAL_MS / 1000, STRETCH * (loop.time() - started))
            # The next round counts from when this one was due, not from when it started: with a change every 50 ms, all
            # rounds would otherwise be late once one was.
            due = max(due + interval_s, started + (1 - EARLY) * interval_s)
            await asyncio.sleep(due - loop.time())
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()

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
        if before is not None and page.epoch == before.epoch and page.seq < before.seq:
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


async def group_send(board: Board, seq: int) -> None:
    """Publishes to the group of `board` that it is at event `seq`. Raises what Redis raises."""
    layer: Any = get_channel_layer()
    await layer.group_send(board.group, {"type": "leaderboard.changed", "seq": seq})


hub = Hub(LEADERBOARD)
