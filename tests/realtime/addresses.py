"""Where sockets open: what holds for one of them holds for the others."""

from __future__ import annotations

from tools.servers import Server

PATHS = ["/ws/leaderboard/", "/ws/boards/leaderboard/", "/ws/boards/?board=leaderboard"]


def url(server: Server, path: str) -> str:
    return f"ws://127.0.0.1:{server.port}{path}"
