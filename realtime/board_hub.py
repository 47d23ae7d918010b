"""The hub of boards, one per process: reads the boards that somebody watches, and gives each frame to its sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from scores import board_selectors
from scores.board_selectors import BoardTop
from scores.exceptions import BoardUnknown, PeriodUnknown, Unavailable

from . import metrics
from .board_frames import board_update
from .frame_bytes import prepared
from .frames import STALE_S
from .hub import HEARTBEAT_S, SLICE, TOP
from .pace import Pace
from .page_order import PageOrder
from .socket_writer import SocketWriter

logger = logging.getLogger(__name__)

NOT_AUTHENTICATED, NO_SUCH_BOARD = 4401, 4404  # as the statuses of HTTP
# Without a message: whoever folds the log into boards says nothing, and periods end although nobody scores.
LOOK_EVERY_S = 0.25
RESTART_AFTER_S = 1.0
# A board follows the log by some milliseconds, so after news of an event it is read at every interval until it has it.
# Longer than this nobody waits for who folds: they may be away.
CHASED_FOR_S = 2.0


class Watcher(Protocol):
    """Whose socket it is."""

    @property
    def has_token(self) -> bool: ...

    def end(self, code: int, reason: str) -> None:
        """Close the socket, and leave all boards at once."""


class Watched:
    """A board that sockets of this process watch, and the state that they have."""

    def __init__(self) -> None:
        self.sockets: dict[SocketWriter, Watcher] = {}
        self.top: BoardTop | None = None
        self.order = PageOrder()
        self.read_at = self.pushed_at = 0.0  # in the loop's clock


class BoardHub:
    """Sends boards as they are at the time of sending, to those who may watch them. Idle while nobody watches any."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._newest, self._told_at = 0, float("-inf")  # the newest seq that the group has told, and when

    def join(self, board: str, socket_writer: SocketWriter, watcher: Watcher) -> None:
        """Gives `socket_writer` the board, now or as soon as a store answers, and again after each change.

        Ends `watcher`, now or later, when there is no such board, or when it needs a token and there is none.
        """
        watched = self._watched.setdefault(board, Watched())
        watched.sockets[socket_writer] = watcher
        if watched.top is None:
            self._changed.set()
        elif watched.top.is_public or watcher.has_token:
            # Made anew: it tells the time of the server, and the last one may be as old as a heartbeat.
            socket_writer.offer(prepared(board_update(watched.top)))
        else:
            watcher.end(NOT_AUTHENTICATED, "not_authenticated")
        self._begin()

    def leave(self, board: str, socket_writer: SocketWriter) -> None:
        socket_writer.close()
        watched = self._watched.get(board)
        if watched is not None:
            watched.sockets.pop(socket_writer, None)
            if not watched.sockets:
                del self._watched[board]

    def wake(self, seq: int) -> None:
        """The log is at event `seq`, or with 0, something may have changed. In the event loop only."""
        if self._watched:
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
        if self._task is None and self._watched and not self._stopping:
            self._changed = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._push(), name="board hub")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._stopping:
            return
        self._task = None
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            logger.error("The hub of boards ended, and starts again in a second", exc_info=error)
            asyncio.get_running_loop().call_later(RESTART_AFTER_S, self._begin)
        else:
            self._begin()  # somebody may have come after the last look

    async def _push(self) -> None:
        """Until nobody watches any board."""
        loop = asyncio.get_running_loop()
        pace = Pace()
        while self._watched:
            started = loop.time()
            await self._round(started)
            await pace.next_round(started, self._changed, look_every_s=LOOK_EVERY_S)

    async def _round(self, now: float) -> None:
        """Reads all boards that are watched, in one batch, and sends what changed."""
        boards = list(self._watched)
        reads = (board_selectors.top(board, TOP) for board in boards)
        found = await asyncio.gather(*reads, return_exceptions=True)
        for board, top in zip(boards, found, strict=True):
            try:
                await self._take(board, top, now)
            except Exception:  # of one board; the others go on
                logger.exception("The hub of boards failed to send a frame and continues")

    async def _take(self, board: str, top: BoardTop | BaseException, now: float) -> None:
        watched = self._watched.get(board)
        if watched is None:  # everybody has left meanwhile
            return
        if isinstance(top, BoardTop):
            if watched.top is not None and watched.top.board_id != top.board_id:
                self._end_all(watched, BoardUnknown.code)  # deleted, and made anew: what they have is of another board
            else:
                await self._show(watched, top, now)
        elif isinstance(top, (BoardUnknown, PeriodUnknown)):
            self._end_all(watched, top.code)
        elif not isinstance(top, Unavailable):
            raise top
        elif watched.top is not None:  # no store answers: the last state ages
            age_s = watched.top.age_s + now - watched.read_at
            await self._show(watched, watched.top._replace(age_s=age_s), now)

    @staticmethod
    def _end_all(watched: Watched, code: str) -> None:
        for watcher in list(watched.sockets.values()):
            watcher.end(NO_SUCH_BOARD, code)

    async def _show(self, watched: Watched, top: BoardTop, now: float) -> None:
        if not top.is_public:  # before anything is sent
            for watcher in [watcher for watcher in watched.sockets.values() if not watcher.has_token]:
                watcher.end(NOT_AUTHENTICATED, "not_authenticated")
        before = watched.top
        if watched.order.admits(top, now):  # else this source is behind the previous one: frames never go back
            watched.top, watched.read_at = top, now
            if top.seq < self._newest and now - self._told_at < CHASED_FOR_S:
                self._changed.set()
        assert watched.top is not None  # the first is always admitted
        is_news = before is None or visible_part(before) != visible_part(watched.top)
        if is_news or now - watched.pushed_at >= HEARTBEAT_S:
            watched.pushed_at = now
            await self._fan_out(watched.sockets, watched.top)

    async def _fan_out(self, sockets: dict[SocketWriter, Watcher], top: BoardTop) -> None:
        frame = prepared(board_update(top))
        socket_writers = tuple(sockets)
        metrics.frames_sent.inc(len(socket_writers))
        for start in range(0, len(socket_writers), SLICE):
            for socket_writer in socket_writers[start : start + SLICE]:
                socket_writer.offer(frame)
            await asyncio.sleep(0)


def visible_part(top: BoardTop) -> tuple[Any, ...]:
    """The part of a state whose change is worth a frame."""
    period = top.period
    of_period = period.number, period.starts_at, period.ends_at, period.is_current
    return top.epoch, of_period, top.entries, top.age_s > STALE_S


board_hub = BoardHub()
