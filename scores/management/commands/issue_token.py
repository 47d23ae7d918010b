"""`manage.py issue_token`: an access token for a game server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scores.access.authentication import WRITE_ANY, issue
from scores.user_id import is_user_id

MAX_DAYS = 3650


class Command(BaseCommand):
    help = "Print an access token, such as one with which a game server scores for its players."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help="its user id, which the events name as their actor")
        parser.add_argument("--scope", default="", help=f"words parted by blanks: {WRITE_ANY} to score for others")
        parser.add_argument("--days", type=int, default=30, help=f"for how long it is valid: 1 to {MAX_DAYS}")

    def handle(self, *args: Any, **options: Any) -> None:
        user_id, days = options["user"], options["days"]
        scopes = options["scope"].split()
        if not is_user_id(user_id):
            raise CommandError(f"--user {user_id!r}: expected 1 to 255 characters in normal form C, none of control.")
        if unknown := set(scopes) - {WRITE_ANY}:
            raise CommandError(f"--scope: there is no {' '.join(sorted(unknown))}, only {WRITE_ANY}.")
        if not 1 <= days <= MAX_DAYS:
            raise CommandError(f"--days {days}: expected 1 to {MAX_DAYS}.")

        lifetime = timedelta(days=days)
        self.stdout.write(issue(user_id, scope=" ".join(scopes), lifetime=lifetime))
        # Apart from the token, which a script wants to itself.
        self.stderr.write(f"For {user_id}, until {datetime.now(UTC) + lifetime:%Y-%m-%d %H:%M} UTC.")
