"""The answer to a plain request where only a WebSocket is: most often a proxy has taken the upgrade out of one."""

from __future__ import annotations

import re

from django.conf import settings
from django.http import HttpResponse

from leaderboard_site.asgi_types import Receive, Scope, Send
from scores.api import problems

PATH = re.compile(re.escape(settings.URL_PREFIX) + "/ws/(leaderboard|boards(/[^/]+)?)/?")
DETAIL = (
    "This address is a WebSocket, and the request does not ask for one: that takes HTTP/1.1, Upgrade: websocket and "
    "Connection: Upgrade. If your client has sent these, a proxy on the way does not pass them on."
)


def is_socket(path: str) -> bool:
    """Whether `path` is one of a WebSocket and of nothing else."""
    return PATH.fullmatch(path) is not None


async def upgrade_required(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 426 to any method."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Cache-Control": "no-store"}
    answer = HttpResponse(f"{DETAIL}\n", status=426, content_type="text/plain; charset=utf-8", headers=headers)
    await problems.send_response(answer, send)
