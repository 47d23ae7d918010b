"""The socket of boards: of one that the path names, or of several that the query string does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from asgiref.typing import WebSocketConnectEvent, WebSocketDisconnectEvent
from channels.exceptions import StopConsumer

from scores import board_selectors
from scores.access.authentication import Principal, TokenExpired, TokenInvalid, key_fetched, verify_token
from scores.access.client_address import rate_limit_key
from scores.exceptions import BoardUnknown, KeyAwaited, PeriodUnknown, Unavailable

from . import metrics
from .board_hub import board_hub
from .consumers import TRY_AGAIN_LATER, LeaderboardConsumer
from .socket_limits import socket_limits
from .socket_writer import FRAMES, SocketWriter

PROTOCOL = "leaderboard.v1"
BEARER = "bearer."
MAX_BOARDS = 20  # of one socket
BAD_REQUEST, NOT_AUTHENTICATED, NO_SUCH_BOARD = 4400, 4401, 4404  # as the statuses of HTTP


class Refusal(Exception):  # noqa: N818  names what happened
    """The socket is closed with this code and reason, after the handshake: a browser tells its script nothing of one."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class BoardConsumer(LeaderboardConsumer):
    """Finds out which boards the socket may watch. The hub has the frames and writes them."""

    def __init__(self) -> None:
        super().__init__()
        self._socket_writers: dict[str, SocketWriter] = {}
        self._expiry: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def websocket_connect(self, message: WebSocketConnectEvent) -> None:
        offered: list[str] = list(self.scope.get("subprotocols") or ())
        subprotocol = PROTOCOL if PROTOCOL in offered else None
        await self.base_send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        client = self.scope["client"]
        self.rate_limit_key = rate_limit_key(client[0] if client else "")
        if reason := socket_limits.enter(self.rate_limit_key):
            metrics.sockets_refused.inc()
            await self._refuse(Refusal(TRY_AGAIN_LATER, reason))
        try:
            boards = boards_of(self.scope)
            principal = await principal_of(offered)
            for board in boards:
                await must_be_seen(board, principal)
        except BaseException as error:
            socket_limits.leave(self.rate_limit_key)
            if isinstance(error, Refusal):
                await self._refuse(error)
            raise
        self._join(boards)
        if principal is not None:
            loop = asyncio.get_running_loop()
            wait_s = principal.expires_at - time.time()
            self._expiry = loop.call_later(wait_s, self._end, NOT_AUTHENTICATED, "token_expired")

    async def _refuse(self, refusal: Refusal) -> None:
        await self.base_send({"type": "websocket.close", "code": refusal.code, "reason": refusal.reason})
        raise StopConsumer

    def _join(self, boards: list[str]) -> None:
        """One slot for each board: a frame of one must not replace that of another."""
        scopes = split(self.scope, len(boards))
        for board, scope in zip(boards, scopes, strict=True):
            self._socket_writers[board] = socket_writer = SocketWriter(scope, self.base_send)
            board_hub.join(board, socket_writer, lambda: self._end(NO_SUCH_BOARD, BoardUnknown.code))

    def _end(self, code: int, reason: str) -> None:
        """Closes the socket; its client then says goodbye, as it does to any other close."""
        close = self.base_send({"type": "websocket.close", "code": code, "reason": reason})
        task = asyncio.ensure_future(close)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def websocket_disconnect(self, message: WebSocketDisconnectEvent) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        for board, socket_writer in self._socket_writers.items():
            board_hub.leave(board, socket_writer)
        socket_limits.leave(self.rate_limit_key)
        raise StopConsumer


def boards_of(scope: Any) -> list[str]:
    """The boards that the address names, each once. Raises `Refusal`."""
    if board := scope["url_route"]["kwargs"].get("board"):
        return [board]
    asked = parse_qs(scope["query_string"].decode("latin-1")).get("board", [])
    boards = list(dict.fromkeys(asked))
    if not 1 <= len(boards) <= MAX_BOARDS:
        raise Refusal(BAD_REQUEST, f"expected 1 to {MAX_BOARDS} boards: ?board=a&board=b")
    return boards


async def principal_of(offered: list[str]) -> Principal | None:
    """Whose token came as the subprotocol `bearer.<jwt>`; `None` without one. No other way: an address is logged."""
    token = next((name.removeprefix(BEARER) for name in offered if name.startswith(BEARER)), None)
    if token is None:
        return None
    try:
        try:
            return verify_token(token)
        except KeyAwaited:
            await key_fetched()
            return verify_token(token)
    except (TokenExpired, TokenInvalid) as error:
        raise Refusal(NOT_AUTHENTICATED, error.default_code) from error
    except Unavailable as error:
        raise Refusal(TRY_AGAIN_LATER, error.code) from error


async def must_be_seen(board: str, principal: Principal | None) -> None:
    """Raises `Refusal` if there is no such board, or if it needs a token and there is none."""
    try:
        is_public = await board_selectors.is_public(board)
    except (BoardUnknown, PeriodUnknown) as error:
        raise Refusal(NO_SUCH_BOARD, error.code) from error
    except Unavailable as error:
        raise Refusal(TRY_AGAIN_LATER, error.code) from error
    if not is_public and principal is None:
        raise Refusal(NOT_AUTHENTICATED, "not_authenticated")


def split(scope: Any, count: int) -> list[Any]:
    """A scope for each of so many writers, all of which hear whether the one socket is clear."""
    extensions = scope.get("extensions") or {}
    if FRAMES not in extensions or count == 1:
        return [scope] * count
    reports: list[Callable[[bool], None]] = []
    is_clear = False

    def tell(clear: bool) -> None:
        nonlocal is_clear
        is_clear = clear
        for report in reports:
            report(clear)

    def watch(report: Callable[[bool], None]) -> None:
        reports.append(report)
        report(is_clear)

    extensions[FRAMES]["watch"](tell)
    frames = extensions[FRAMES] | {"watch": watch}
    return [scope | {"extensions": extensions | {FRAMES: frames}} for _ in range(count)]
