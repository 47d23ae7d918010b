"""`manage.py issue_token`: tokens of services, such as game servers."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scores import service_tokens
from scores.models import ServiceToken
from scores.scopes import Scope
from scores.service_tokens import Issued, TokenError

COLUMNS = "{:<16}  {:<24}  {:<15}  {:<16}  {:<16}  {}"
MAKER = "issue_token"  # instead of the account that made a token in the admin


class Command(BaseCommand):
    help = "Issue a token for a service, such as a game server that adds points for its players; list and end tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--service", metavar="NAME", help="print a new token of this service, the actor of its events"
        )
        what.add_argument("--rotate", metavar="PREFIX", help="print a new token in place of this one, which ends")
        what.add_argument("--revoke", metavar="PREFIX", help="end this token at once")
        what.add_argument("--list", action="store_true", help="show all tokens, the newest first; not their secrets")
        parser.add_argument("--scope", default="", help=f"scopes, separated by spaces: {', '.join(Scope)}")
        parser.add_argument(
            "--days", type=int, default=30, help=f"days until it expires: 1 to {service_tokens.MAX_DAYS}"
        )
        parser.add_argument(
            "--grace-minutes", type=int, default=0, help="with --rotate: how long the old token still works"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["list"]:
                self._list()
            elif options["revoke"] is not None:
                token = service_tokens.revoke(options["revoke"])
                self.stderr.write(f"Revoked {token}.")
            elif options["rotate"] is not None:
                self._print(
                    service_tokens.rotate(
                        options["rotate"],
                        days=options["days"],
                        grace_minutes=options["grace_minutes"],
                        created_by=MAKER,
                    )
                )
            else:
                scopes = options["scope"].split()
                self._print(
                    service_tokens.issue(name=options["service"], scopes=scopes, days=options["days"], created_by=MAKER)
                )
        except TokenError as error:
            raise CommandError(str(error)) from error

    def _print(self, issued: Issued) -> None:
        self.stdout.write(issued.secret)
        # On stderr, so that a script gets only the token on stdout.
        self.stderr.write(
            f"Token {issued.row}, valid until {issued.row.expires_at:%Y-%m-%d %H:%M} UTC. It is not shown again."
        )

    def _list(self) -> None:
        self.stdout.write(COLUMNS.format("PREFIX", "SERVICE", "STATE", "EXPIRES (UTC)", "LAST USED", "SCOPES"))
        for token in service_tokens.with_state(ServiceToken.objects.order_by("-created_at", "prefix")):
            used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never"
            expires = f"{token.expires_at:%Y-%m-%d %H:%M}"
            self.stdout.write(COLUMNS.format(token.prefix, token.name, token.state, expires, used, token.scopes))
