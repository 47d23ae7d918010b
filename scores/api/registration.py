"""Registration: a name is registered once, ever, and its score is never somebody else's."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError
from django.utils import timezone
from rest_framework.exceptions import APIException

from scores.exceptions import is_conflict
from scores.models import Block, EndedAccount, UserScore

from .answer import committed_in_time
from .refresh_tokens import AccountToken

REPEATED_FOR = timedelta(minutes=5)


class UsernameTaken(APIException):
    status_code = 409
    default_code = "username_taken"
    default_detail = "This username is already taken."


def register(username: str, password: str) -> AccountToken:
    """Create an account and return its first refresh token. Raises `UsernameTaken`, or `Overloaded`: nothing happened.

    A repeated registration, with the same password within `REPEATED_FOR`, gets tokens too: the client may not have got
    the first answer.
    """
    model = get_user_model()
    account = model.objects.filter(username=username).first()
    if account is None:
        if is_reserved(username):
            raise UsernameTaken
        try:
            return create(username, password)
        except IntegrityError:  # somebody else registers it at the same time
            account = model.objects.filter(username=username).first()
    try:
        if account is not None and is_repeated(account, password):
            with committed_in_time():
                return AccountToken.for_user(account)
    except DatabaseError as error:
        if not is_conflict(error):  # deleted just now
            raise
    raise UsernameTaken


def create(username: str, password: str) -> AccountToken:
    """A new account and its first token, both or neither. Raises `IntegrityError` if the name is taken."""
    account = get_user_model()(username=username)
    account.set_password(password)  # before the transaction: hashing waits for a CPU
    with committed_in_time():
        account.save(force_insert=True)
        return AccountToken.for_user(account)


def is_reserved(username: str) -> bool:
    """Whether the name has a score, a block, or had an account that was deleted. Those belong to somebody."""
    tables = (UserScore.objects, Block.objects, EndedAccount.objects)
    return any(rows.filter(pk=username).exists() for rows in tables)


def is_repeated(account: User, password: str) -> bool:
    """Whether whoever registers now is who has just registered. Later, they can sign in."""
    is_new = timezone.now() - account.date_joined < REPEATED_FOR
    return is_new and account.is_active and account.check_password(password)
