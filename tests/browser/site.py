"""Somebody else's site: pages without our policy, and a socket that says what a test wants it to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server as SocketServer
from websockets.sync.server import ServerConnection, serve

from tools.servers import ROOT

STATIC = ROOT / "leaderboard_site" / "static" / "leaderboard"
KINDS = {".js": "text/javascript", ".css": "text/css"}


class Site:
    """Serves `page` at `url`, and at `socket_url` a socket for each connection of which `talk` is called."""

    policy = ""  # of that page
    page = "<!doctype html><link rel=icon href='data:,'>"

    def __init__(self) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                file = STATIC / self.path.rpartition("/")[2]
                body = file.read_bytes() if file.is_file() else site.page.encode()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", KINDS.get(file.suffix, "text/html; charset=utf-8"))
                self.send_header("Content-Length", str(len(body)))
                if site.policy:
                    self.send_header("Content-Security-Policy", site.policy)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self.talk: Callable[[ServerConnection], None] = lambda socket: None
        self._pages = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._sockets: SocketServer = serve(self._talk, "127.0.0.1", 0)
        self._threads = [threading.Thread(target=server.serve_forever) for server in (self._pages, self._sockets)]

    @property
    def url(self) -> str:
        return f"http://localhost:{self._pages.server_address[1]}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self._sockets.socket.getsockname()[1]}/ws/leaderboard/"

    def _talk(self, socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            self.talk(socket)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sockets.shutdown()
        self._pages.shutdown()
        self._pages.server_close()
        for thread in self._threads:
            thread.join()
