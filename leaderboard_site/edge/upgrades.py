"""The answer to a plain request where only a WebSocket is: most often a proxy has taken the upgrade out of one."""

from __future__ import annotations

from django.conf import settings

from leaderboard_site.asgi_types import Receive, Scope, Send
from scores.api import problems

PATHS = tuple(f"{settings.URL_PREFIX}/ws/leaderboard{end}" for end in ("/", ""))
DETAIL = (
    "This address is a WebSocket, and the request has no Upgrade. If your client has sent one, a proxy on the way does "
    "not pass on the headers Upgrade and Connection."
)


async def upgrade_required(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 426 to any method."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Cache-Control": "no-store"}
    await problems.send_response(problems.problem_response(426, "upgrade_required", DETAIL, headers=headers), send)
