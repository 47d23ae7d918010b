"""The path of PUBLIC_URL in front of every address, whether the proxy passes it on or strips it."""

from __future__ import annotations

from leaderboard_site.asgi_types import Application, Receive, Scope, Send


class Prefix:
    """Gives `app` each path with `prefix` in front, and `prefix` as ASGI's `root_path`.

    Health checks and metrics come past the proxy, and so without it. No address with it can be meant without: the
    settings refuse a prefix that begins as an address of this service does.
    """

    def __init__(self, app: Application, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path = scope["path"]
            if path != self.prefix and not path.startswith(f"{self.prefix}/"):
                path = self.prefix + path
            scope = scope | {"path": path, "root_path": self.prefix}
        await self.app(scope, receive, send)
