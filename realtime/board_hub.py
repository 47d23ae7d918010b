"""The hub of boards, one per process: reads the boards that somebody watches, and gives each frame to its sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from django.conf import settings

from scores import board_selectors
from scores.board_selectors import BoardTop
from scores.exceptions import BoardUnknown, PeriodUnknown, Unavailable

from . import metrics
from .board_frames import board_update
from .frame_bytes import Frame, prepared
from .frames import STALE_S
from .hub import EARLY, HEARTBEAT_S, SLICE, STRETCH, TOP
from .page_order import PageOrder
from .socket_writer import SocketWriter

logger = logging.getLogger(__name__)

# Without a message: whoever folds the log into boards says nothing, and periods end although nobody scores.
LOOK_EVERY_S = 0.25
RESTART_AFTER_S = 1.0
# A board follows the log by some milliseconds, so after news of an event it is read at every interval until it has it.
# Longer than this nobody waits for who folds: they may be away.
CHASED_FOR_S = 2.0


class Watched:
    """A board that sockets of this process watch, and the frame that they have."""

    def __init__(self) -> None:
        self.sockets: dict[SocketWriter, Callable[[], object]] = {}  # each with what ends it when the board is gone
        self.frame: Frame | None = None
        self.top: BoardTop | None = None
        self.order = PageOrder()
        self.read_at = self.pushed_at = 0.0  # in the loop's clock


class BoardHub:
    """Sends boards as they are at the time of sending, to those who watch them. Costs nothing while nobody does."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._newest, self._told_at = 0, float("-inf")  # the newest seq that the group has told, and when

    def join(self, board: str, socket_writer: SocketWriter, ended: Callable[[], object]) -> None:
        """Gives `socket_writer` the current frame of the board, as soon as there is one, and every later one.

        `ended` is called when there is no such board any more.
        """
        watched = self._watched.setdefault(board, Watched())
        watched.sockets[socket_writer] = ended
        if watched.frame is not None:
            socket_writer.offer(watched.frame)
        else:
            self._changed.set()
        if self._task is None and not self._stopping:
            self._begin()

    def leave(self, board: str, socket_writer: SocketWriter) -> None:
        socket_writer.close()
        watched = self._watched.get(board)
        if watched is not None:
            watched.sockets.pop(socket_writer, None)
            if not watched.sockets:
                del self._watched[board]

    def wake(self, seq: int = 0) -> None:
        """The log is at event `seq`, or something else may have changed. In the event loop only."""
        if seq > 0:
            self._newest, self._told_at = seq, asyncio.get_running_loop().time()
        self._changed.set()

    async def stop(self) -> None:
        self._stopping = True
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.1)
        self._task, self._stopping = None, False

    def _begin(self) -> None:
        self._changed = asyncio.Event()
        self._changed.set()
        self._task = asyncio.get_running_loop().create_task(self._push(), name="board hub")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._stopping:
            error = None if task.cancelled() else task.exception()
            logger.error("The hub of boards ended, and starts again in a second", exc_info=error)
            asyncio.get_running_loop().call_later(RESTART_AFTER_S, self._begin)

    async def _push(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            started = loop.time()
            try:
                await self._round(started)
            except Exception:
                logger.exception("The hub of boards failed to send a frame and continues")
            interval_s = max(settings.FRAME_INTERVAL_MS / 1000, STRETCH * (loop.time() - started))
            due = max(due + interval_s, started + (1 - EARLY) * interval_s)
            await asyncio.sleep(due - loop.time())
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()

    async def _round(self, now: float) -> None:
        """Reads all boards that are watched, in one batch, and sends what changed."""
        boards = list(self._watched)
        reads = (board_selectors.top(board, TOP) for board in boards)
        found = await asyncio.gather(*reads, return_exceptions=True)
        for board, top in zip(boards, found, strict=True):
            watched = self._watched.get(board)
            if watched is None:  # everybody has left meanwhile
                continue
            if isinstance(top, BoardTop):
                await self._show(watched, top, now)
            elif isinstance(top, (BoardUnknown, PeriodUnknown)):
                self._end(board)
            elif isinstance(top, Unavailable):
                await self._age(watched, now)
            else:
                raise top

    async def _show(self, watched: Watched, top: BoardTop, now: float) -> None:
        watched.read_at = now
        if not watched.order.admits(top, now):
            return
        before, watched.top = watched.top, top
        if before is None or visible_part(before) != visible_part(top) or now - watched.pushed_at >= HEARTBEAT_S:
            watched.frame, watched.pushed_at = prepared(board_update(top)), now
            await self._fan_out(watched)
        if top.seq < self._newest and now - self._told_at < CHASED_FOR_S:
            self._changed.set()

    async def _age(self, watched: Watched, now: float) -> None:
        """No store answers: the last state ages."""
        if watched.top is not None:
            await self._show(watched, watched.top._replace(age_s=watched.top.age_s + now - watched.read_at), now)

    async def _fan_out(self, watched: Watched) -> None:
        frame = watched.frame
        assert frame is not None
        socket_writers = tuple(watched.sockets)
        metrics.frames_sent.inc(len(socket_writers))
        for start in range(0, len(socket_writers), SLICE):
            for socket_writer in socket_writers[start : start + SLICE]:
                socket_writer.offer(frame)
            await asyncio.sleep(0)

    def _end(self, board: str) -> None:
        for ended in list(self._watched[board].sockets.values()):
            ended()
        self._watched.pop(board, None)


def visible_part(top: BoardTop) -> tuple[Any, ...]:
    """The part of a state whose change is worth a frame."""
    return top.epoch, top.period, top.entries, top.age_s > STALE_S


board_hub = BoardHub()
