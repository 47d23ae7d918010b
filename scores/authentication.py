"""Who is asking: bearer tokens, verified without I/O and remembered until they expire. The only user of simplejwt's tokens."""

from __future__ import annotations

import time
from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.tokens import AccessToken

from . import metrics
from .identity import is_user_id

REALM = "leaderboard"
MOST_REMEMBERED = 20_000
LONGEST_REMEMBERED = 2_048  # characters; longer ones are verified each time instead of filling the memory


class TokenExpired(AuthenticationFailed):
    default_code = "token_expired"
    default_detail = "The token has expired."


class TokenInvalid(AuthenticationFailed):
    default_code = "token_invalid"
    default_detail = "The token is not valid."


class Principal:
    """The user whom a verified token speaks for; there may be no row for them."""

    is_authenticated = True
    is_active = True

    __slots__ = ("expires_at", "user_id")

    def __init__(self, user_id: str, expires_at: float) -> None:
        self.user_id = user_id
        self.expires_at = expires_at  # POSIX seconds


class AuthenticatedRequest(Request):
    """A request that `TokenAuthentication` let through."""

    user: Principal  # type: ignore[assignment]  # the stubs know Django's users only


# Verifying costs 60-190 µs of CPU, more than the rest of the request's Python. Insertion order is age: the oldest goes
# first when it is full, and expired ones go when they are met.
_remembered: dict[str, Principal] = {}


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token>`, RFC 6750."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        header: str = request.META.get("HTTP_AUTHORIZATION", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
        return verified(token.strip()), None

    def authenticate_header(self, request: Request) -> str:
        return f'Bearer realm="{REALM}"'


def verified(token: str) -> Principal:
    """The principal of an access token; raises `TokenExpired` or `TokenInvalid`."""
    principal = _remembered.get(token)
    if principal is None:
        principal = _verify(token)
        if len(token) <= LONGEST_REMEMBERED:
            if len(_remembered) >= MOST_REMEMBERED:
                del _remembered[next(iter(_remembered))]
            _remembered[token] = principal
    if principal.expires_at <= time.time():
        _remembered.pop(token, None)
        raise TokenExpired
    return principal


def _verify(token: str) -> Principal:
    metrics.tokens_verified.inc()
    try:
        claims: Any = AccessToken(token)  # type: ignore[arg-type]  # the stubs want a Token, the library takes text
        user_id, expires_at = claims.get("user_id"), float(claims["exp"])
    except ExpiredTokenError as error:
        raise TokenExpired from error
    except TokenError as error:
        raise TokenInvalid from error
    except (
        TypeError,
        ValueError,
        OverflowError,
        KeyError,
    ) as error:  # claims of odd types, signed by somebody careless
        raise TokenInvalid from error
    if not is_user_id(user_id):
        raise TokenInvalid("The access token names no valid user.")
    return Principal(user_id, expires_at)
