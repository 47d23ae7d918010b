"""`manage.py rebuild_engagement`: counts anew who plays when, from the first event of the log."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from scores.engagement.fold import EngagementFold
from scores.log.head import log
from scores.management import progress


class Command(BaseCommand):
    help = "Count anew who plays when, from the log. Readers see the part that is counted so far."

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        fold = EngagementFold(log)
        try:
            fold.empty()
            # The follower counts as well, if it runs: either does what the other has not done.
            with progress.reporter("Counting", self.stderr) as report:
                events = log.head().seq
                while left := fold.behind():
                    fold.fold()
                    report(max(events - left, 0), events)
        except DatabaseError as error:
            raise CommandError(str(error).strip()) from error
        self.stdout.write(f"Counted {events} events in {time.monotonic() - started:.2f} s")
