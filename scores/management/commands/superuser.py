"""`manage.py superuser`: creates an administrator or sets a new password, without prompts."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from scores.models import EndedAccount
from scores.user_id import is_player_id


class Command(BaseCommand):
    help = "Create an administrator, or set a new password for an existing one, and print username and password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", default="admin")
        parser.add_argument("--password", default="", help="random by default")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model()
        username: str = options["username"]
        password: str = options["password"] or secrets.token_urlsafe(12)
        try:
            # As the form of the sign-in does it, or nobody could sign in by this name.
            username = users._meta.get_field("username").clean(users.normalize_username(username), None)
        except ValidationError as error:
            raise CommandError(f"--username {username!r}: {' '.join(error.messages)}") from error
        if not is_player_id(username):
            raise CommandError(f"--username {username!r}: this name is not allowed.")

        if EndedAccount.objects.filter(pk=username).exists():
            raise CommandError(f"--username {username!r}: belonged to a deleted account, and nobody gets it again.")
        user, made = users.objects.get_or_create(username=username)
        user.is_active = user.is_staff = user.is_superuser = True
        user.set_password(password)
        user.save()

        self.stdout.write(f"{'New' if made else 'Changed'} administrator: username {username}, password {password}")
