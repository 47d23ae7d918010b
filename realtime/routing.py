from __future__ import annotations

from typing import Any

from channels.security.websocket import WebsocketDenier
from django.urls import re_path

from .consumers import LeaderboardConsumer

board: Any = LeaderboardConsumer.as_asgi()
nobody: Any = WebsocketDenier.as_asgi()

# Channels routes by Django's patterns, whose stubs know HTTP views only.
websocket_urlpatterns: list[Any] = [
    re_path(r"^ws/leaderboard/?$", board),
    re_path(r"^$", board),  # for clients that open ws://host
    re_path(r"", nobody),
]
