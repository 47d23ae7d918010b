"""`manage.py verify_leaderboard`: compares the copy in Redis with the tables, and the totals with the events."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from scores.exceptions import RedisAway
from scores.log.audit import WrongTotal, wrong_totals
from scores.management import progress
from scores.projection import verification
from scores.projection.leaderboard import leaderboard
from scores.projection.verification import Comparison, Difference

MAX_LINES = 100


class Command(BaseCommand):
    help = "Compare the copy in Redis with the totals, and those with the events. Exit status: 0 equal, 1 different, 2 a store does not answer."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with progress.reporter("Comparing the copy with the tables", self.stderr) as report:
                result = verification.compare(leaderboard, progress=report)
            wrong = wrong_totals(leaderboard.log)
        except (RedisAway, DatabaseError) as error:
            raise CommandError(f"A store does not answer: {str(error).strip()}", returncode=2) from error

        self.stdout.write(
            f"Compared {result.compared} users at event {result.head.seq}: {len(result.differences)} differ"
        )
        self.list_some(map(describe, result.differences), len(result.differences))
        if result.fault:
            self.stdout.write(f"The copy is {result.fault}: {positions(result)}")
        if result.unsettled:
            self.stdout.write(f"{result.unsettled} users changed too often to be compared")
        if wrong:
            self.stdout.write(f"{len(wrong)} totals are not what their events add up to")
        self.list_some(map(describe_total, wrong), len(wrong))
        if not result.equal:
            raise CommandError(
                "The copy is not equal to the tables. Run `manage.py rebuild_leaderboard` to rebuild it."
            )
        if wrong:
            raise CommandError("Somebody changed totals by hand: docs/operations.md, PostgreSQL.")
        self.stdout.write("The copy is equal to the tables")

    def list_some(self, lines: Iterable[str], count: int) -> None:
        """Write the first `MAX_LINES` of `count` lines, and how many more there are."""
        for line in islice(lines, MAX_LINES):
            self.stdout.write(line)
        if count > MAX_LINES:
            self.stdout.write(f"… and {count - MAX_LINES} more")


def positions(result: Comparison) -> str:
    """Where the copy and the log are."""
    head, state = result.head, result.state
    log = f"the log is at event {head.seq} of {head.origin} with {head.members} members"
    if state is None:
        return log
    return f"it is at event {state.seq} of {state.origin} with {state.size} members, expected {state.members}; {log}"


def describe(difference: Difference) -> str:
    """A difference as a line. The user id is a Python literal, since a member of the set may be unprintable."""
    table = "not on the board" if difference.in_table is None else f"{difference.in_table} in the table"
    redis = "not in Redis" if difference.in_redis is None else f"{difference.in_redis} in Redis"
    return f"{difference.user_id!r}: {table}, {redis}"


def describe_total(total: WrongTotal) -> str:
    table = "not in the table" if total.in_table is None else f"{total.in_table} in the table"
    return f"{total.user_id!r}: {total.in_log} by the events, {table}"
