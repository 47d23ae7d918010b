"""Refresh tokens: each belongs to one account, works once, and is stored by its id only.

A token that was used answers with the same successor for `REPEATED_FOR`, because the client may not have got the first
answer, as long as the successor is unused: whoever uses that has got it. See docs/adr/0025.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.utils import datetime_from_epoch

REPEATED_FOR = timedelta(seconds=30)
ACCOUNT = "account"  # the claim with the primary key: names are for ever, but a database may be put back
AUTH_HASH = "session_auth_hash"  # the claim that a new password makes wrong, as it does with a session of Django


class AccountToken(RefreshToken):
    """A refresh token of an account."""

    no_copy_claims = (*RefreshToken.no_copy_claims, ACCOUNT, AUTH_HASH)  # type: ignore[assignment]  # two more

    def check_blacklist(self) -> None:
        """Nothing: `use` and `end` decide about a used token, under a lock."""

    @classmethod
    def for_user(cls, user: Any) -> AccountToken:
        token = cls()
        token._belong_to(user)
        token._record(user)
        return token

    def account(self) -> User:
        """The account. Raises `TokenError` if it is gone, or if its password changed after the token was issued."""
        owner = self.payload[ACCOUNT] if ACCOUNT in self.payload else self._recorded_owner()
        user = None
        if owner is not None:
            user = get_user_model().objects.filter(pk=owner, username=self.payload["user_id"]).first()
        if user is None:
            raise TokenError("Token has no account")
        if ACCOUNT in self.payload and not constant_time_compare(
            str(self.payload[AUTH_HASH]), user.get_session_auth_hash()
        ):
            raise TokenError("Token is older than the password")
        return user

    def use(self, user: User) -> AccountToken:
        """The successor, which is the same for all requests with this token. Raises `TokenError` if it is used up."""
        row = self._lock(user)
        used, first = BlacklistedToken.objects.get_or_create(token=row)
        successor = self._successor(user, used)
        if first:
            successor._record(user)
        elif not self._repeats(used, successor):
            raise TokenError("Token is blacklisted")
        return successor

    def end(self, user: User) -> None:
        """Ends the token, and the successor that it would still answer with. Raises `TokenError` if it is used up."""
        row = self._lock(user)
        used, first = BlacklistedToken.objects.get_or_create(token=row)
        if first:
            return
        successor = self._successor(user, used)
        if not self._repeats(used, successor):
            raise TokenError("Token is blacklisted")
        successor.end(user)

    def _belong_to(self, user: User) -> None:
        self.payload |= {
            "user_id": user.get_username(),
            ACCOUNT: user.pk,
            AUTH_HASH: user.get_session_auth_hash(),
        }

    def _recorded_owner(self) -> int | None:
        """The account of a token from before there was a claim for it: its row says whose it was, if not deleted."""
        row = OutstandingToken.objects.filter(jti=self.payload["jti"]).values_list("user_id", flat=True)
        return row.first()

    def _record(self, user: User) -> None:
        OutstandingToken.objects.create(user=user, **self._row())

    def _row(self) -> dict[str, Any]:
        expires_at = datetime_from_epoch(self.payload["exp"])
        return {"jti": self.payload["jti"], "token": "", "created_at": self.current_time, "expires_at": expires_at}

    def _lock(self, user: User) -> OutstandingToken:
        """The row of this token, locked. A new one if a backup was put back that is older than the token.

        Raises `TokenError` if somebody deletes it while this waits for the lock, as with the account.
        """
        row = self._row()
        made, _ = OutstandingToken.objects.get_or_create(jti=row.pop("jti"), defaults=row | {"user": user})
        locked = OutstandingToken.objects.select_for_update().filter(pk=made.pk).first()
        if locked is None:
            raise TokenError("Token was deleted")
        return locked

    def _successor(self, user: User, used: BlacklistedToken) -> AccountToken:
        """Everything in it follows from this token and the time of its first use, so that it need not be stored."""
        successor = AccountToken()
        successor.current_time = used.blacklisted_at
        successor.set_iat()
        successor.set_exp()
        successor.payload["jti"] = hashlib.sha256(f"successor of {self.payload['jti']}".encode()).hexdigest()[:32]
        successor._belong_to(user)
        return successor

    def _repeats(self, used: BlacklistedToken, successor: AccountToken) -> bool:
        """Whether this used token still answers. It does not if there is no successor: it was ended, not used."""
        if timezone.now() - used.blacklisted_at > REPEATED_FOR:
            return False
        unused = OutstandingToken.objects.filter(jti=successor.payload["jti"], blacklistedtoken__isnull=True)
        return unused.exists()
