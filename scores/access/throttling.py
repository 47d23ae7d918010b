"""Rate limits, on a limiter that counts for all processes together.

DRF's own throttles count in the cache in two steps, so simultaneous requests can exceed the limit many times; and they
take the client address from a header that the client writes. See docs/adr/0016.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from limits import RateLimitItem
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from .client_address import rate_limit_key
from .limiter import Verdict, batcher
from .sliding_window import Hit


class RateLimited(Throttled):
    default_code = "rate_limited"

    def __init__(self, wait_s: int, headers: Mapping[str, str]) -> None:
        super().__init__(detail=f"Too many requests, try again in {wait_s} s.")
        self.headers = headers


class Throttle:
    """One limit; whatever admits raises `RateLimited` beyond it."""

    name: str
    setting: str

    @property
    def rate(self) -> RateLimitItem | None:
        """`None` while the limit is off."""
        rate: RateLimitItem | None = getattr(settings, self.setting)
        return rate

    def subject(self, request: Request) -> str:
        raise NotImplementedError

    async def admit(self, request: Request, rate: RateLimitItem) -> dict[str, str]:
        """The headers that say what is left of the limit."""
        return await self.admit_subject(self.subject(request), rate)

    async def admit_subject(self, subject: str, rate: RateLimitItem) -> dict[str, str]:
        return self.enforce(rate, await batcher.submit(Hit(self.name, subject, rate)))

    def enforce(self, rate: RateLimitItem, verdict: Verdict) -> dict[str, str]:
        headers = limit_headers(self.name, rate, verdict)
        if not verdict.admitted:
            raise RateLimited(verdict.wait_s, headers)
        return headers


def limit_headers(name: str, rate: RateLimitItem, verdict: Verdict) -> dict[str, str]:
    """The headers of draft-ietf-httpapi-ratelimit-headers-10, and Retry-After if the hit is refused."""
    headers = {
        "RateLimit-Policy": f'"{name}";q={rate.amount};w={rate.get_expiry()}',
        "RateLimit": f'"{name}";r={verdict.remaining};t={verdict.wait_s}',
    }
    if not verdict.admitted:
        headers["Retry-After"] = str(verdict.wait_s)
    return headers


class IncrementThrottle(Throttle):
    """RATE_LIMIT, per user of the token."""

    name = "increments"
    setting = "RATE_LIMIT"

    def subject(self, request: Request) -> str:
        principal: Any = request.user
        user_id: str = principal.user_id
        return user_id


class PlayerThrottle(IncrementThrottle):
    """RATE_LIMIT, per service and player: the service itself has no such limit, and uses up nobody else's."""

    def subject(self, request: Request) -> str:
        # No id contains a line break, so two pairs cannot become the same text.
        return f"{super().subject(request)}\n{request.parser_context['kwargs']['user_id']}"


class Unlimited(Throttle):
    """For a service that sends what happened to all of its players, whom their own limits concern."""

    @property
    def rate(self) -> None:
        return None


class AddressThrottle(Throttle):
    """Per client address, to which the server has applied TRUSTED_PROXIES; reads no header."""

    def subject(self, request: Request) -> str:
        return rate_limit_key(request.META.get("REMOTE_ADDR", ""))

    async def admit_client(self, client: tuple[str, int] | None) -> dict[str, str]:
        """`admit` for the `client` of an ASGI scope; no headers while the limit is off."""
        rate = self.rate
        if rate is None:
            return {}
        return await self.admit_subject(rate_limit_key(client[0] if client else ""), rate)


class ReadThrottle(AddressThrottle):
    """READ_RATE_LIMIT."""

    name = "reads"
    setting = "READ_RATE_LIMIT"


class TokenThrottle(AddressThrottle):
    """TOKEN_RATE_LIMIT: registering, signing in, refreshing and logging out together."""

    name = "tokens"
    setting = "TOKEN_RATE_LIMIT"
