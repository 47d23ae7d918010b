"""Views that issue and revoke tokens. Sync, on Django's own handler: they hash passwords and write rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DatabaseError, DataError, IntegrityError
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.views import TokenObtainPairView

from scores.access.authentication import REALM, WRONG_CLAIMS
from scores.exceptions import is_conflict
from scores.user_id import is_player_id

from .answer import committed_in_time
from .refresh_tokens import AccountToken
from .registration import register
from .serializers import NOT_ALLOWED, RefreshSerializer, RegistrationSerializer, TextField


class RegistrationClosed(PermissionDenied):
    default_code = "registration_closed"
    default_detail = "Registration is closed."


class TokenView(APIView):
    """A view for clients that have no access token yet."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def get_authenticate_header(self, request: Request) -> str:
        return f'Bearer realm="{REALM}"'  # without it, DRF makes each 401 a 403


class RegisterView(TokenView):
    """Creates a user and returns the first tokens, so that the first score takes two requests."""

    def post(self, request: Request) -> Response:
        if settings.REGISTRATION != "open":
            raise RegistrationClosed
        serializer = RegistrationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        refresh = register(**serializer.validated_data)
        return Response({"userId": refresh.payload["user_id"]} | pair(refresh), status=201)


def pair(refresh: AccountToken) -> dict[str, str]:
    return {"access": str(refresh.access_token), "refresh": str(refresh)}


class SignInSerializer(TokenObtainPairSerializer):
    """Username and password, parsed as at registration."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"] = TextField()
        self.fields["password"] = TextField(trim_whitespace=False)

    def validate_username(self, value: str) -> str:
        return get_user_model().normalize_username(value)

    @classmethod
    def get_token(cls, user: Any) -> AccountToken:
        """Called once the password is right. The account may be older than the rule for names, or made by a command."""
        if not is_player_id(user.get_username()):
            raise ValidationError({"username": [NOT_ALLOWED]}, "invalid")
        with committed_in_time():
            return AccountToken.for_user(user)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """The pair. An account that is deleted meanwhile is one that is not there.

        Its token then refers to nothing, and nothing can take the new hash of a password that was hashed as of old.
        """
        try:
            return super().validate(attrs)
        except DatabaseError as error:
            if not is_conflict(error):
                raise
            raise AuthenticationFailed(self.error_messages["no_active_account"], "no_active_account") from error


class SignInView(TokenObtainPairView):
    """Returns a pair of tokens for a username and a password."""

    serializer_class = SignInSerializer


@contextmanager
def refusing_wrong_claims() -> Iterator[None]:
    """Raises `InvalidToken` for a token that is used up, has wrong claims, or no account: no server error."""
    try:
        yield
    except (TokenError, *WRONG_CLAIMS, DataError, IntegrityError) as error:
        raise InvalidToken from error


class RefreshView(TokenView):
    """Returns a new pair of tokens for a refresh token, which cannot be used again but to repeat the same answer."""

    def post(self, request: Request) -> Response:
        serializer = RefreshSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with refusing_wrong_claims():
            token = AccountToken(serializer.validated_data["refresh"])
            account = token.account()
            if not account.is_active:
                raise AuthenticationFailed("No active account found for the given token.", "no_active_account")
            if not is_player_id(account.get_username()):  # or the access token would be refused everywhere
                raise TokenError("Token has no valid user id")
            with committed_in_time():
                successor = token.use(account)
        return Response(pair(successor))


class LogoutView(TokenView):
    """Revokes a refresh token; the access token stays valid until it expires, within minutes."""

    def post(self, request: Request) -> Response:
        serializer = RefreshSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with refusing_wrong_claims():
            token = AccountToken(serializer.validated_data["refresh"])
            account = token.account()
            with committed_in_time():
                token.end(account)
        return Response(status=204)
