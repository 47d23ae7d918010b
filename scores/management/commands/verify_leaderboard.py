"""`manage.py verify_leaderboard`: compares the copy in Redis with the tables, and the totals with the events.

With `--board`, another board: its standings and its copy with the events.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from scores.board import LEADERBOARD
from scores.boards import comparison
from scores.boards.copies import board_copies
from scores.exceptions import RedisAway
from scores.log.audit import WrongTotal, wrong_totals
from scores.management import progress
from scores.models import Board
from scores.projection import verification
from scores.projection.leaderboard import leaderboard
from scores.projection.verification import Comparison, Difference

MAX_LINES = 100


class Command(BaseCommand):
    help = "Compare the copy in Redis with the totals, and those with the events. Exit status: 0 equal, 1 different, 2 a store does not answer."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--board", metavar="NAME", help="another board than the default one")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["board"] in (None, LEADERBOARD.name):
            self._verify()
        else:
            self._verify_board(options["board"])

    def _verify_board(self, name: str) -> None:
        """The standings and the copy of another board, each as of the event that it is at."""
        try:
            board = Board.objects.filter(name=name).first()
            if board is None:
                raise CommandError(f"There is no board {name!r}", returncode=2)
            results = comparison.compare(leaderboard.log, board_copies, board)
        except (RedisAway, DatabaseError) as error:
            raise CommandError(f"A store does not answer: {str(error).strip()}", returncode=2) from error
        for result in results:
            if result.fault:
                self.stdout.write(f"{result.store}: {result.fault}")
            elif result.seq is None:
                self.stdout.write(f"{result.store}: does not have the board")
            else:
                found = f"compared {result.compared} rows at event {result.seq}: {len(result.differences)} differ"
                self.stdout.write(f"{result.store}: {found}")
            self.list_some(map(describe_standing, result.differences), len(result.differences))
        if not all(result.equal for result in results):
            raise CommandError("The board is not what its events come to.")
        self.stdout.write("The board is what its events come to")

    def _verify(self) -> None:
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


def describe_standing(difference: comparison.Difference) -> str:
    """A difference on another board as a line, in its keys: scores, negated where lower is better."""
    expected, found = (
        "not there" if row is None else f"{row.key:.0f} since event {row.reached_seq}{', hidden' if row.hidden else ''}"
        for row in (difference.expected, difference.found)
    )
    return f"Period {difference.period}, {difference.user_id!r}: {expected} by the events, {found} in the store"


def describe_total(total: WrongTotal) -> str:
    table = "not in the table" if total.in_table is None else f"{total.in_table} in the table"
    return f"{total.user_id!r}: {total.in_log} by the events, {table}"
