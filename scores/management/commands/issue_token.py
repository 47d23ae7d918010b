"""`manage.py issue_token`: an access token for a game server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scores.access.authentication import WRITE_ANY, issue
from scores.user_id import is_user_id

MAX_DAYS = 3650


class Command(BaseCommand):
    help = "Print an access token, for example for a game server that adds points for its players."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--user", required=True, help="the user id of the token, recorded as the actor of its events"
        )
        parser.add_argument(
            "--scope", default="", help=f"scopes, separated by spaces: {WRITE_ANY} to add points for other users"
        )
        parser.add_argument("--days", type=int, default=30, help=f"days until it expires: 1 to {MAX_DAYS}")

    def handle(self, *args: Any, **options: Any) -> None:
        user_id, days = options["user"], options["days"]
        scopes = options["scope"].split()
        if not is_user_id(user_id):
            raise CommandError(
                f"--user {user_id!r}: expected 1 to 255 characters in normal form C, without control characters."
            )
        if unknown := set(scopes) - {WRITE_ANY}:
            raise CommandError(f"--scope: unknown scope {' '.join(sorted(unknown))}; the only scope is {WRITE_ANY}.")
        if not 1 <= days <= MAX_DAYS:
            raise CommandError(f"--days {days}: expected 1 to {MAX_DAYS}.")

        lifetime = timedelta(days=days)
        self.stdout.write(issue(user_id, scope=" ".join(scopes), lifetime=lifetime))
        # On stderr, so that a script gets only the token on stdout.
        self.stderr.write(f"Token for {user_id}, valid until {datetime.now(UTC) + lifetime:%Y-%m-%d %H:%M} UTC.")
