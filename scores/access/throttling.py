"""Who may ask how often: DRF's throttles, on a limiter that counts for all processes together.

DRF's own count in the cache in two steps, and let many times the limit through when requests come at the same moment;
and they take the caller's address from a header that the caller wrote. See docs/adr/0016.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from limits import RateLimitItem
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from .client_address import rate_limit_key
from .limiter import Verdict, batcher
from .sliding_window import Hit


class RateLimited(Throttled):
    default_code = "rate_limited"
    default_detail = "Too many requests; try again after the seconds in Retry-After."
    extra_detail_singular = extra_detail_plural = ""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.headers = headers


class Throttle(BaseThrottle):
    """One limit. Views wait for it in either way: `allow_request` blocks, `admit` does not; both raise `RateLimited`."""

    name: str
    setting: str

    @property
    def rate(self) -> RateLimitItem | None:
        """`None` while the limit is off."""
        rate: RateLimitItem | None = getattr(settings, self.setting)
        return rate

    def who(self, request: Request) -> str:
        raise NotImplementedError

    def allow_request(self, request: Request, view: Any) -> bool:
        if self.rate is not None:
            view.headers |= self.settle(
                self.rate, batcher.submit_and_wait(Hit(self.name, self.who(request), self.rate))
            )
        return True

    async def admit(self, request: Request, rate: RateLimitItem) -> dict[str, str]:
        """The headers that tell how much is left."""
        return await self.admit_of(self.who(request), rate)

    async def admit_of(self, who: str, rate: RateLimitItem) -> dict[str, str]:
        return self.settle(rate, await batcher.submit(Hit(self.name, who, rate)))

    def settle(self, rate: RateLimitItem, verdict: Verdict) -> dict[str, str]:
        headers = limit_headers(self.name, rate, verdict)
        if not verdict.admitted:
            raise RateLimited(headers)
        return headers


def limit_headers(name: str, rate: RateLimitItem, verdict: Verdict) -> dict[str, str]:
    """The headers of draft-ietf-httpapi-ratelimit-headers-10, and Retry-After where nothing is left."""
    headers = {
        "RateLimit-Policy": f'"{name}";q={rate.amount};w={rate.get_expiry()}',
        "RateLimit": f'"{name}";r={verdict.remaining};t={verdict.wait_s}',
    }
    if not verdict.admitted:
        headers["Retry-After"] = str(verdict.wait_s)
    return headers


class IncrementThrottle(Throttle):
    """RATE_LIMIT, of the token's user."""

    name = "increments"
    setting = "RATE_LIMIT"

    def who(self, request: Request) -> str:
        principal: Any = request.user
        user_id: str = principal.user_id
        return user_id


class PlayerThrottle(IncrementThrottle):
    """RATE_LIMIT as well, of the player whom a game server scores for: a server is not held to what one player may."""

    def who(self, request: Request) -> str:
        user_id: str = request.parser_context["kwargs"]["user_id"]
        return user_id


class AddressThrottle(Throttle):
    """Of the caller's address, which the server has put right for TRUSTED_PROXIES; no header is read here."""

    def who(self, request: Request) -> str:
        return rate_limit_key(request.META.get("REMOTE_ADDR", ""))


class ReadThrottle(AddressThrottle):
    """READ_RATE_LIMIT."""

    name = "reads"
    setting = "READ_RATE_LIMIT"


class TokenThrottle(AddressThrottle):
    """TOKEN_RATE_LIMIT: registering, signing in, refreshing and logging out together."""

    name = "tokens"
    setting = "TOKEN_RATE_LIMIT"
