"""How often an address may open a page, and try a password in the admin.

Static files are not counted: they ask no store and are cached, a page needs several of them, and one that is admitted
without its scripts is worse than one that is refused.
"""

from __future__ import annotations

from django.conf import settings

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from scores.access.client_address import rate_limit_key
from scores.access.throttling import RateLimited, ReadThrottle, TokenThrottle
from scores.api import problems
from scores.exceptions import Unavailable

from .errors import page_response

READS = ReadThrottle()
PASSWORDS = TokenThrottle()  # one allowance with the API: a second door gives no second number of tries
PASSWORD_FORMS = tuple(f"{settings.URL_PREFIX}/admin/{form}/" for form in ("login", "password_change"))


class PageLimit:
    """Answers 429 instead of `app` beyond READ_RATE_LIMIT, or beyond TOKEN_RATE_LIMIT for a form with a password."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        takes_password = scope["method"] == "POST" and scope["path"] in PASSWORD_FORMS
        throttle = PASSWORDS if takes_password else READS
        rate = throttle.rate
        if rate is None:
            return await self.app(scope, receive, send)
        client = scope["client"]
        try:
            await throttle.admit_subject(rate_limit_key(client[0] if client else ""), rate)
        except RateLimited as refused:
            response = page_response(429, refused.default_code, str(refused.detail), headers=refused.headers)
        except Unavailable as away:
            headers = {"Retry-After": str(problems.RETRY_AFTER_S)}
            response = page_response(503, away.code, str(away), headers=headers)
        else:
            return await self.app(scope, receive, send)
        await problems.send_response(response, send)
