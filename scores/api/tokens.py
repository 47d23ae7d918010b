"""Views that hand out tokens and take them back. Sync, on Django's own handler: they hash passwords and write rows."""

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
    default_detail = "Registration is closed here."


class RegisterView(APIView):
    """Makes a user and answers with their first tokens, so that a first score is two requests away."""

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
    """Name and password, read the way they were read at the registration."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"] = TextField()
        self.fields["password"] = TextField(trim_whitespace=False)

    def validate_username(self, value: str) -> str:
        return get_user_model().normalize_username(value)


class SignInView(TokenObtainPairView):
    """A pair of tokens for a name and a password."""

    serializer_class = SignInSerializer
    throttle_classes = (TokenThrottle,)


class SingleUseToken(RefreshToken):
    """A refresh token that only one of those who use it at the same moment gets to use up."""

    def blacklist(self) -> Any:
        used_up: Any = super().blacklist()  # what `get_or_create` answers; the annotation leaves half of it out
        if not used_up[1]:
            raise TokenError("Token is blacklisted")
        return used_up


class RefreshSerializer(TokenRefreshSerializer):
    token_class = SingleUseToken
    refresh = TextField()


class LogoutSerializer(TokenBlacklistSerializer):
    token_class = SingleUseToken
    refresh = TextField(write_only=True)


@contextmanager
def odd_claims_refused() -> Iterator[None]:
    """A signed token with odd claims, or without one, or of a user who is gone, is invalid and not a server error."""
    try:
        yield
    except (TypeError, ValueError, OverflowError, KeyError, DataError, ObjectDoesNotExist) as error:
        raise InvalidToken from error


class RefreshView(TokenRefreshView):
    """A new pair for a refresh token, which is used up by it."""

    serializer_class = RefreshSerializer
    throttle_classes = (TokenThrottle,)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with odd_claims_refused():
            return super().post(request, *args, **kwargs)


class LogoutView(TokenBlacklistView):
    """Uses up a refresh token; the access token lives on until it expires, within minutes."""

    serializer_class = LogoutSerializer
    throttle_classes = (TokenThrottle,)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with odd_claims_refused():
            super().post(request, *args, **kwargs)
        return Response(status=204)
