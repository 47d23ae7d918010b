"""How often an address may open a page, and ask for a token or try a password.

The limits stand before Django: a refusal in a sync view takes a thread and two milliseconds, and one address with five
hundred a second would have kept the whole process busy.

Static files are not counted: they ask no store and are cached, a page needs several of them, and one that is admitted
without its scripts is worse than one that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from scores.access.throttling import AddressThrottle, RateLimited, ReadThrottle, TokenThrottle
from scores.api import problems
from scores.exceptions import Overloaded, Unavailable

from .errors import page_response

READS = ReadThrottle()
TOKENS = TokenThrottle()
PASSWORD_FORMS = tuple(f"{settings.URL_PREFIX}/admin/{form}/" for form in ("login", "password_change"))


class AddressLimit:
    """Answers 429 instead of `app` beyond the limit of the client's address, and 503 while nobody can count."""

    refusal: Callable[..., HttpResponse]

    def __init__(self, app: Application) -> None:
        self.app = app

    def throttle(self, scope: Scope) -> AddressThrottle:
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            limits = await self.throttle(scope).admit_client(scope["client"])
        except RateLimited as refused:
            response = self.refusal(429, refused.default_code, str(refused.detail), headers=refused.headers)
        except Unavailable:
            headers = {"Retry-After": str(problems.RETRY_AFTER_S)}
            response = self.refusal(503, Overloaded.code, Overloaded.message, headers=headers)
        else:
            return await self.app(scope, receive, telling(limits, send) if limits else send)
        await problems.send_response(response, send)


def telling(limits: Mapping[str, str], send: Send) -> Send:
    """`send`, with the headers that say what is left of the limit."""
    added = [(name.lower().encode(), value.encode()) for name, value in limits.items()]

    async def send_with_limits(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return send_with_limits


class PageLimit(AddressLimit):
    """READ_RATE_LIMIT; for a form with a password TOKEN_RATE_LIMIT: a second door gives no second number of tries."""

    refusal = staticmethod(page_response)

    def throttle(self, scope: Scope) -> AddressThrottle:
        takes_password = scope["method"] == "POST" and scope["path"] in PASSWORD_FORMS
        return TOKENS if takes_password else READS


class TokenLimit(AddressLimit):
    """TOKEN_RATE_LIMIT."""

    refusal = staticmethod(problems.problem_response)

    def throttle(self, scope: Scope) -> AddressThrottle:
        return TOKENS
