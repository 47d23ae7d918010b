"""`manage.py verify_leaderboard`: is the copy in Redis the same as the tables?"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from scores.exceptions import RedisAway
from scores.management import progress
from scores.projection import verification
from scores.projection.leaderboard import leaderboard
from scores.projection.verification import Comparison, Difference

MAX_LINES = 100


class Command(BaseCommand):
    help = "Compare the copy in Redis with the tables. Exit status: 0 equal, 1 different, 2 a store does not answer."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with progress.reported("Comparing the copy with the tables", self.stderr) as tell:
                found = verification.compare(leaderboard, progress=tell)
        except (RedisAway, DatabaseError) as error:
            raise CommandError(f"A store does not answer: {str(error).strip()}", returncode=2) from error

        self.stdout.write(f"Compared {found.compared} users at event {found.head.seq}: {len(found.differences)} differ")
        for difference in found.differences[:MAX_LINES]:
            self.stdout.write(line(difference))
        if len(found.differences) > MAX_LINES:
            self.stdout.write(f"… and {len(found.differences) - MAX_LINES} more")
        if found.fault:
            self.stdout.write(f"The copy is {found.fault}: {account(found)}")
        if found.unsettled:
            self.stdout.write(f"{found.unsettled} users changed too often to be compared")
        if not found.equal:
            raise CommandError("The copy is not equal to the tables. `manage.py rebuild_leaderboard` makes it anew.")
        self.stdout.write("The copy is equal to the tables")


def account(found: Comparison) -> str:
    """What the copy says of itself, and what the log says."""
    head, state = found.head, found.state
    log = f"the log is at event {head.seq} of {head.origin} with {head.members} members"
    if state is None:
        return log
    return f"it is at event {state.seq} of {state.origin} with {state.members} members, of which there are {state.size}; {log}"


def line(difference: Difference) -> str:
    """The user id as a literal: what a foreign hand put into Redis may not even be printable."""
    table = "not on the board" if difference.in_table is None else f"{difference.in_table} in the table"
    redis = "not in Redis" if difference.in_redis is None else f"{difference.in_redis} in Redis"
    return f"{difference.user_id!r}: {table}, {redis}"
