"""Bearer tokens, verified without I/O and cached until they expire. Only this module uses simplejwt's access tokens."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any

import jwt
from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.tokens import AccessToken

from scores import metrics
from scores.scopes import Scope
from scores.user_id import is_player_id, is_user_id, service_id

from .jwks import JwksClient

REALM = "leaderboard"
# A service token is its prefix, which tells it apart, and a JWT.
PREFIX_START = "lbs_"
PREFIX_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # people read it out: without l, o, 0 and 1
PREFIX_LENGTH = len(PREFIX_START) + 12  # 59 random bits
DATES = (
    "exp",
    "nbf",
    "iat",
)  # RFC 7519, section 2: numbers; libraries accept everything that int() does, such as "7" and true
# What claims of a careless issuer raise that are not of their types, or dates that the system's clock cannot show.
WRONG_CLAIMS = (TypeError, ValueError, OverflowError, OSError, KeyError)
CLOCK_SKEW_S: int = settings.SIMPLE_JWT["LEEWAY"]
MAX_CACHED_TOKENS = 20_000
NO_SCOPES: frozenset[str] = frozenset()
MAX_CACHED_LENGTH = 2_048  # characters; longer tokens are verified each time instead of filling the memory


class TokenExpired(AuthenticationFailed):
    default_code = "token_expired"
    default_detail = "The token has expired."


class TokenInvalid(AuthenticationFailed):
    default_code = "token_invalid"
    default_detail = "The token is not valid."


class InsufficientScope(PermissionDenied):
    default_code = "insufficient_scope"

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"This needs a token with the scope {scope}.")
        self.scope = scope


class Principal:
    """The user of a verified token, for whom there may be no account, or a service."""

    is_authenticated = True
    is_active = True

    __slots__ = ("expires_at", "is_foreign", "is_service", "scopes", "token", "user_id")

    def __init__(
        self,
        user_id: str,
        expires_at: float,
        scopes: frozenset[str],
        *,
        is_service: bool = False,
        token: str = "",
        is_foreign: bool = False,
    ) -> None:
        self.user_id = user_id  # of a service: `service:NAME`
        self.expires_at = expires_at  # POSIX seconds
        self.scopes = scopes
        self.is_service = is_service
        self.token = token  # the prefix of a service token with a row, which decides whether it is still good
        self.is_foreign = is_foreign  # the identity provider vouches for it, so it is nobody with an account here


class AuthenticatedRequest(Request):
    """A request that `TokenAuthentication` has accepted."""

    user: Principal  # type: ignore[assignment]  # the stubs only know Django's users


# Verifying costs 60-190 µs of CPU, more than the rest of the request's Python. Insertion order is age: a full cache
# drops the oldest token. An expired token is dropped when it is used.
_cache: dict[str, Principal] = {}


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token>`, RFC 6750."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        header: str = request.META.get("HTTP_AUTHORIZATION", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
        return verify_token(token.strip()), None

    def authenticate_header(self, request: Request) -> str:
        return f'Bearer realm="{REALM}"'


# Tokens of an external identity provider name their signing key; tokens of this service do not.
jwks_client = JwksClient(settings.JWKS_URL, changed=_cache.clear) if settings.JWKS_URL else None


def verify_token(token: str) -> Principal:
    """The principal of an access token. Raises `TokenExpired` or `TokenInvalid`, or `KeyAwaited` (see `jwks`)."""
    principal = _cache.get(token)
    if principal is None:
        generation = jwks_client.generation if jwks_client is not None else 0
        principal = _verify(token)
        if len(token) <= MAX_CACHED_LENGTH:
            if len(_cache) >= MAX_CACHED_TOKENS:
                del _cache[next(iter(_cache))]
            _cache[token] = principal
            # Its key may have been withdrawn, and the cache cleared, between the look-up of the key and here.
            if jwks_client is not None and jwks_client.generation != generation:
                _cache.pop(token, None)
    elif principal.is_foreign and jwks_client is not None:
        jwks_client.renew()
    if principal.expires_at <= time.time():
        _cache.pop(token, None)
        raise TokenExpired
    return principal


def _verify(token: str) -> Principal:
    if token.startswith(PREFIX_START):
        return _verify_service(token)
    kid = _kid(token) if jwks_client is not None else None
    return _verify_own(token) if kid is None else _verify_foreign(token, kid)


def _kid(token: str) -> str | None:
    """The key id in the header of the token. Nothing else in the header is used: no URL of keys, no algorithm."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenInvalid from error
    return kid if isinstance(kid, str) else None


def _verify_foreign(token: str, kid: str) -> Principal:
    """The principal of a token of the identity provider. The key determines the algorithm, which is asymmetric."""
    assert jwks_client is not None
    key = jwks_client.key(kid)
    if key is None:
        raise TokenInvalid
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=settings.JWT_AUDIENCE,
            issuer=settings.JWT_ISSUER,
            leeway=CLOCK_SKEW_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        # A date beyond the year 9999, such as one in milliseconds, is none, as in our own tokens.
        expires_at = datetime.fromtimestamp(claims["exp"], UTC).timestamp() + CLOCK_SKEW_S
    except jwt.ExpiredSignatureError as error:
        raise TokenExpired from error
    except (jwt.PyJWTError, *WRONG_CLAIMS, RecursionError) as error:
        raise TokenInvalid from error
    subject = claims.get("sub")
    if isinstance(subject, str) and subject:
        subject = settings.JWKS_SUBJECT_PREFIX + subject
    return _principal(subject, expires_at, claims, is_foreign=True)


async def key_fetched() -> None:
    """Return when the fetch that `KeyAwaited` waits for has ended, or after a bounded time."""
    assert jwks_client is not None  # or `KeyAwaited` would not have been raised
    await jwks_client.fetched()


def _verify_own(token: str) -> Principal:
    claims, expires_at = _own_claims(token)
    return _principal(claims.get("user_id"), expires_at, claims)


def _verify_service(token: str) -> Principal:
    """The principal of a service token: whether it was revoked, its row says, which the transaction reads."""
    prefix, separator, text = (
        token[:PREFIX_LENGTH],
        token[PREFIX_LENGTH : PREFIX_LENGTH + 1],
        token[PREFIX_LENGTH + 1 :],
    )
    claims, expires_at = _own_claims(text)
    name = claims.get("service")
    if separator != "_" or claims.get("jti") != prefix or not isinstance(name, str):
        raise TokenInvalid
    return Principal(service_id(name), expires_at, scopes_of(claims), is_service=True, token=prefix)


def _own_claims(token: str) -> tuple[dict[str, Any], float]:
    """The claims of a JWT that this service signed, and when it expires, in POSIX seconds."""
    metrics.tokens_verified.inc()
    try:
        claims: Any = AccessToken(token).payload  # type: ignore[arg-type]  # the stubs want a Token, the library takes a string
        return claims, float(claims["exp"]) + CLOCK_SKEW_S
    except ExpiredTokenError as error:
        raise TokenExpired from error
    except (TokenError, *WRONG_CLAIMS) as error:
        raise TokenInvalid from error


def _principal(user_id: object, expires_at: float, claims: dict[str, Any], *, is_foreign: bool = False) -> Principal:
    """The user of a token without a row, or the service, if the token has a scope that only services have."""
    if not is_player_id(user_id):
        raise TokenInvalid("The access token has no valid user id.")
    if any(type(claims.get(name, 0)) not in (int, float) for name in DATES):
        raise TokenInvalid("A date in the access token is not a number.")
    scopes = scopes_of(claims)
    is_service = not scopes.isdisjoint(Scope)
    if is_service:
        user_id = service_id(user_id)
        if not is_user_id(user_id):
            raise TokenInvalid("The name of the service in the access token is too long.")
    return Principal(user_id, expires_at, scopes, is_service=is_service, is_foreign=is_foreign)


def scopes_of(claims: dict[str, Any]) -> frozenset[str]:
    """The values of the claim `scope`, separated by spaces: RFC 9068, section 2.2.3, and RFC 6749, section 3.3."""
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise TokenInvalid("The scope of the access token is not a string.")
    return frozenset(scope.split(" ")) if scope else NO_SCOPES


def new_prefix() -> str:
    """A random start for a service token."""
    return PREFIX_START + "".join(secrets.choice(PREFIX_ALPHABET) for _ in range(PREFIX_LENGTH - len(PREFIX_START)))


def signed_service_token(prefix: str, name: str, *, scope: str, expires_at: datetime) -> str:
    """The service token with this prefix. It is good for as long as there is a row that says so."""
    token = AccessToken()
    token["exp"] = int(expires_at.timestamp())
    token["jti"] = prefix
    token["service"] = name
    token["scope"] = scope
    return f"{prefix}_{token}"
