"""`manage.py rebuild_leaderboard`: rebuilds the copy in Redis from the tables while reads and writes go on."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from scores import signals
from scores.exceptions import CopyUnusable
from scores.log.head import log
from scores.management import progress
from scores.projection.leaderboard import leaderboard


class Command(BaseCommand):
    help = "Rebuild the copy in Redis from the tables. Readers see the old copy until the new one replaces it."

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        try:
            # The lock keeps the tails from rebuilding. If one is already rebuilding, both go on: either result is
            # right.
            with log.try_rebuild_lock(), progress.reporter("Rebuilding the copy", self.stderr) as report:
                head = leaderboard.rebuild(why="manage.py rebuild_leaderboard", force=True, progress=report)
        except (CopyUnusable, DatabaseError) as error:
            raise CommandError(str(error).strip()) from error
        # The hubs of all processes read the board again, as after every change.
        signals.leaderboard_changed.send_robust(sender=Command, origin=head.origin, seq=head.seq)

        took_s = time.monotonic() - started
        self.stdout.write(f"Rebuilt {head.members} members at event {head.seq} in {took_s:.2f} s")
