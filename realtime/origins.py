"""Which pages may open a socket. Programs that send no Origin may: game servers are not browsers."""

from __future__ import annotations

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, WebSocketScope
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host


class OriginCheck:
    """Admits a handshake if it has no Origin, or its Origin is its own Host or one of SOCKET_ORIGINS; else answers 403.

    Channels' AllowedHostsOriginValidator refuses clients without an Origin, and ignores the request's own Host.
    """

    def __init__(self, app: ASGI3Application) -> None:
        self.app = app
        self.denier = WebsocketDenier.as_asgi()

    async def __call__(self, scope: WebSocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        app = self.app if not origin or is_allowed(origin, host) else self.denier
        await app(scope, receive, send)


def is_allowed(origin: str, host: str) -> bool:
    if origin in settings.SOCKET_ORIGINS:
        return True
    # The Host of the request, but only if ALLOWED_HOSTS has it: a page on a rebound DNS name sends that name as both.
    domain, _ = split_domain_port(host)
    return origin in (f"https://{host}", f"http://{host}") and validate_host(domain, settings.ALLOWED_HOSTS)
