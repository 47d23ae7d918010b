from __future__ import annotations

from typing import Any

from channels.security.websocket import WebsocketDenier
from django.urls import re_path

from .board_consumers import BoardConsumer
from .consumers import LeaderboardConsumer

board: Any = LeaderboardConsumer.as_asgi()
boards: Any = BoardConsumer.as_asgi()
denied: Any = WebsocketDenier.as_asgi()

# Channels routes with Django's patterns, whose type stubs accept only HTTP views.
websocket_urlpatterns: list[Any] = [
    re_path(r"^ws/leaderboard/?$", board),
    re_path(r"^ws/boards/(?P<board>[^/]+)/?$", boards),
    re_path(r"^ws/boards/?$", boards),  # with ?board=a&board=b
    re_path(r"^$", board),  # for clients that open ws://host
    re_path(r"", denied),
]
