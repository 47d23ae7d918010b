"""The socket of boards: of one that the path names, or of several that the query string does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from asgiref.typing import WebSocketConnectEvent, WebSocketDisconnectEvent
from channels.exceptions import StopConsumer

from scores import board_selectors
from scores.access.authentication import Principal, TokenExpired, TokenInvalid, key_fetched, verify_token
from scores.access.client_address import rate_limit_key
from scores.exceptions import KeyAwaited, Refused, Unavailable

from . import metrics
from .board_hub import NOT_AUTHENTICATED, board_hub
from .consumers import TRY_AGAIN_LATER, LeaderboardConsumer
from .socket_limits import socket_limits
from .socket_writer import FRAMES, SocketWriter

logger = logging.getLogger(__name__)

PROTOCOL = "leaderboard.v1"
BEARER = "bearer."
MAX_BOARDS = 20  # of one socket
BAD_REQUEST = 4400  # as the status of HTTP
CHECK_EVERY_S = 60.0  # whether the user of an open socket has been blocked, or the token revoked


class Refusal(Exception):  # noqa: N818  names what happened
    """The socket is closed with this code and reason, after the handshake: a browser tells its script nothing of one."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class BoardConsumer(LeaderboardConsumer):
    """Finds out what the client asks for, and who it is. The hub of boards has the frames and writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.has_token = False
        self._socket_writers: dict[str, SocketWriter] = {}
        self._checking: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def websocket_connect(self, message: WebSocketConnectEvent) -> None:
        offered: list[str] = list(self.scope.get("subprotocols") or ())
        subprotocol = PROTOCOL if PROTOCOL in offered else None
        await self.base_send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        try:
            boards = boards_of(self.scope)
            principal = await principal_of(offered)
            self._enter()
        except Refusal as refusal:
            await self._close(refusal.code, refusal.reason)
            raise StopConsumer from refusal
        if principal is not None:
            self.has_token = True
            self._checking = asyncio.create_task(self._check(principal), name="token of a socket")
        self._join(boards)
        logger.debug("Socket of %s opened", self.scope["client"])

    def _enter(self) -> None:
        """Nothing is awaited between this and the wait for the client's end, which undoes it."""
        client = self.scope["client"]
        self.rate_limit_key = rate_limit_key(client[0] if client else "")
        if reason := socket_limits.enter(self.rate_limit_key):
            metrics.sockets_refused.inc()
            raise Refusal(TRY_AGAIN_LATER, reason)

    def _join(self, boards: list[str]) -> None:
        """One slot for each board: a frame of one must not replace that of another."""
        scopes = split(self.scope, len(boards))
        for board, scope in zip(boards, scopes, strict=True):
            if self._closing is None:  # the hub may have ended it for one of the boards before
                self._socket_writers[board] = SocketWriter(scope, self.base_send)
                board_hub.join(board, self._socket_writers[board], self)

    async def _check(self, principal: Principal) -> None:
        """Ends the socket when its token expires, or is found to be good no longer."""
        while (left_s := principal.expires_at - time.time()) > 0:
            await asyncio.sleep(min(left_s, CHECK_EVERY_S))
            try:
                await board_selectors.admit(principal.user_id, principal.token)
            except Refused as refused:
                return self.end(NOT_AUTHENTICATED, refused.code)
        self.end(NOT_AUTHENTICATED, TokenExpired.default_code)

    def end(self, code: int, reason: str) -> None:
        """Closes the socket, without waiting for it, and leaves all boards: no frame follows the close frame."""
        if self._closing is None:
            self._leave()
            self._closing = asyncio.create_task(self._close(code, reason))

    async def _close(self, code: int, reason: str) -> None:
        with suppress(Exception):  # the client is gone; the server reports that to the consumer
            await self.base_send({"type": "websocket.close", "code": code, "reason": reason})

    def _leave(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        for board, socket_writer in self._socket_writers.items():
            board_hub.leave(board, socket_writer)
        self._socket_writers = {}

    async def websocket_disconnect(self, message: WebSocketDisconnectEvent) -> None:
        self._leave()
        socket_limits.leave(self.rate_limit_key)
        logger.debug("Socket of %s closed with %s", self.scope["client"], message["code"])
        raise StopConsumer


def boards_of(scope: Any) -> list[str]:
    """The boards that the address names, each once. Raises `Refusal`."""
    if board := scope["url_route"]["kwargs"].get("board"):
        return [board]
    asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("board", [])
    boards = list(dict.fromkeys(asked))
    if not 1 <= len(boards) <= MAX_BOARDS:
        raise Refusal(BAD_REQUEST, f"expected 1 to {MAX_BOARDS} boards: ?board=a&board=b")
    return boards


async def principal_of(offered: list[str]) -> Principal | None:
    """Whose token came as the subprotocol `bearer.<jwt>`; `None` without one. Raises `Refusal`.

    There is no other way: addresses are logged, and a browser sets no header.
    """
    tokens = [name.removeprefix(BEARER) for name in offered if name.startswith(BEARER)]
    if not tokens:
        return None
    if len(tokens) > 1 or PROTOCOL not in offered:  # a browser fails a socket of which no protocol was selected
        raise Refusal(BAD_REQUEST, f"expected the subprotocols {PROTOCOL} and {BEARER}TOKEN")
    try:
        principal = await verified(tokens[0])
        await board_selectors.admit(principal.user_id, principal.token)
    except (TokenExpired, TokenInvalid) as error:
        raise Refusal(NOT_AUTHENTICATED, error.default_code) from error
    except Refused as refused:
        raise Refusal(NOT_AUTHENTICATED, refused.code) from refused
    except Unavailable as error:
        raise Refusal(TRY_AGAIN_LATER, Unavailable.code) from error
    return principal


async def verified(token: str) -> Principal:
    """Raises as `verify_token` does, `KeyAwaited` only if the key does not come."""
    try:
        return verify_token(token)
    except KeyAwaited:
        await key_fetched()
        return verify_token(token)


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
