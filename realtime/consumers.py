"""The socket of the board: it opens, the hub gives it frames, it closes."""

from __future__ import annotations

import logging
from typing import Any

from asgiref.typing import WebSocketConnectEvent, WebSocketDisconnectEvent, WebSocketReceiveEvent
from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer

from scores.access.client_address import rate_limit_key

from . import metrics
from .hub import hub
from .socket_limits import socket_limits
from .socket_writer import SocketWriter

logger = logging.getLogger(__name__)

TRY_AGAIN_LATER = 1013


class LeaderboardConsumer(AsyncConsumer):
    """Reads nothing, computes nothing and joins no group: the hub has the frame and writes it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As in Channels, without a layer channel per socket, and so without two tasks that race for each message."""
        self.scope, self.base_send = scope, send
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass

    async def dispatch(self, message: Any) -> None:
        """As in Channels, without closing old database connections: a thread hop per message, and there are none."""
        await getattr(self, get_handler_name(message))(message)

    async def websocket_connect(self, message: WebSocketConnectEvent) -> None:
        await self.base_send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        client = self.scope["client"]
        self.rate_limit_key = rate_limit_key(client[0] if client else "")
        if reason := socket_limits.enter(self.rate_limit_key):
            metrics.sockets_refused.inc()
            # Only after the handshake: a browser does not tell its script why a handshake was refused.
            await self.base_send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": reason})
            raise StopConsumer
        self.socket_writer = SocketWriter(self.scope, self.base_send)
        hub.join(self.socket_writer)
        logger.debug("Socket of %s opened", self.scope["client"])

    async def websocket_receive(self, message: WebSocketReceiveEvent) -> None:
        """Ignores the message: nothing that a client sends causes work."""

    async def websocket_disconnect(self, message: WebSocketDisconnectEvent) -> None:
        hub.leave(self.socket_writer)
        socket_limits.leave(self.rate_limit_key)
        logger.debug("Socket of %s closed with %s", self.scope["client"], message["code"])
        raise StopConsumer
