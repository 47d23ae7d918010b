"""Which pages may open a socket. Programs that send no Origin may: game servers are not browsers."""

from __future__ import annotations

import logging

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, WebSocketScope
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host

logger = logging.getLogger(__name__)

MOST_NAMED = 100  # refused origins of a process, so that a stranger who invents them fills neither log nor memory
MOST_SHOWN = 200  # characters of one


class OriginCheck:
    """Admits a handshake if it has no Origin, or its Origin is its own Host or one of SOCKET_ORIGINS; else answers 403.

    Channels' AllowedHostsOriginValidator refuses clients without an Origin, and ignores the request's own Host.
    """

    def __init__(self, app: ASGI3Application) -> None:
        self.app = app
        self.denier = WebsocketDenier.as_asgi()
        self._named: set[str] = set()

    async def __call__(self, scope: WebSocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        if not origin or is_allowed(origin, host):
            return await self.app(scope, receive, send)
        self._name(origin[:MOST_SHOWN], host[:MOST_SHOWN])
        await self.denier(scope, receive, send)

    def _name(self, origin: str, host: str) -> None:
        """Logs each origin once: its page only sees a socket that does not open, and tries for ever."""
        if origin in self._named or len(self._named) >= MOST_NAMED:
            return
        self._named.add(origin)
        logger.warning(
            "Refused a socket to a page of %r: it is not in SOCKET_ORIGINS, and the Host was %r. Said once for each origin%s",
            origin,
            host,
            f"; {MOST_NAMED} are named by now, and no more will be" if len(self._named) == MOST_NAMED else "",
        )


def is_allowed(origin: str, host: str) -> bool:
    if origin in settings.SOCKET_ORIGINS:
        return True
    # The Host of the request, but only if ALLOWED_HOSTS has it: a page on a rebound DNS name sends that name as both.
    domain, _ = split_domain_port(host)
    return origin in (f"https://{host}", f"http://{host}") and validate_host(domain, settings.ALLOWED_HOSTS)
