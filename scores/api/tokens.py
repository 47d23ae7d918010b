"""Views that issue and revoke tokens. Sync, on Django's own handler: they hash passwords and write rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist
from django.db import DataError
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.serializers import (
    TokenBlacklistSerializer,
    TokenObtainPairSerializer,
    TokenRefreshSerializer,
)
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.views import TokenBlacklistView, TokenObtainPairView, TokenRefreshView

from scores.access.throttling import TokenThrottle

from .serializers import RegistrationSerializer, TextField


class RegistrationClosed(PermissionDenied):
    default_code = "registration_closed"
    default_detail = "Registration is closed."


class RegisterView(APIView):
    """Creates a user and returns the first tokens, so that the first score takes two requests."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (TokenThrottle,)

    def post(self, request: Request) -> Response:
        if settings.REGISTRATION != "open":
            raise RegistrationClosed
        serializer = RegistrationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        user = serializer.save()
        refresh = RefreshToken.for_user(user)
        body = {"userId": user.get_username(), "access": str(refresh.access_token), "refresh": str(refresh)}
        return Response(body, status=201)


class SignInSerializer(TokenObtainPairSerializer):
    """Username and password, parsed as at registration."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"] = TextField()
        self.fields["password"] = TextField(trim_whitespace=False)

    def validate_username(self, value: str) -> str:
        return get_user_model().normalize_username(value)


class SignInView(TokenObtainPairView):
    """Returns a pair of tokens for a username and a password."""

    serializer_class = SignInSerializer
    throttle_classes = (TokenThrottle,)


class SingleUseToken(RefreshToken):
    """A refresh token that works once: of simultaneous requests with it, only one succeeds."""

    def blacklist(self) -> Any:
        result: Any = super().blacklist()  # of `get_or_create`; the annotation omits the flag
        if not result[1]:
            raise TokenError("Token is blacklisted")
        return result


class RefreshSerializer(TokenRefreshSerializer):
    token_class = SingleUseToken
    refresh = TextField()


class LogoutSerializer(TokenBlacklistSerializer):
    token_class = SingleUseToken
    refresh = TextField(write_only=True)


@contextmanager
def refusing_wrong_claims() -> Iterator[None]:
    """Raises `InvalidToken` for a signed token with wrong or missing claims, or of a deleted user: no server error."""
    try:
        yield
    except (TypeError, ValueError, OverflowError, KeyError, DataError, ObjectDoesNotExist) as error:
        raise InvalidToken from error


class RefreshView(TokenRefreshView):
    """Returns a new pair of tokens for a refresh token, which cannot be used again."""

    serializer_class = RefreshSerializer
    throttle_classes = (TokenThrottle,)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with refusing_wrong_claims():
            return super().post(request, *args, **kwargs)


class LogoutView(TokenBlacklistView):
    """Revokes a refresh token; the access token stays valid until it expires, within minutes."""

    serializer_class = LogoutSerializer
    throttle_classes = (TokenThrottle,)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with refusing_wrong_claims():
            super().post(request, *args, **kwargs)
        return Response(status=204)
