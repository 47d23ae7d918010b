"""Which methods pages have. Django asks for the cookie of a form before it asks a view: a PATCH of a page would get 403."""

from __future__ import annotations

from collections.abc import Container

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from scores.api import problems

from .errors import page_response

READ = ("GET", "HEAD", "OPTIONS")
FORM = (*READ, "POST")


class PageMethods:
    """Answers 405 instead of `app` to a method that no page has, or that has no use where a page is only `read`."""

    def __init__(self, app: Application, *, read: Container[str]) -> None:
        self.app = app
        self.read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = READ if scope["path"] in self.read else FORM
        if scope["method"] in methods:
            return await self.app(scope, receive, send)
        detail = f"This page takes {', '.join(methods[:-1])} and {methods[-1]}."
        response = page_response(405, "method_not_allowed", detail, headers={"Allow": ", ".join(methods)})
        await problems.send_response(response, send)
