"""`manage.py rebuild_leaderboard`: the copy in Redis, made anew from the tables while everything goes on."""

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
    help = "Make the copy in Redis anew from the tables. Readers see the old one until the new one takes its place."

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        try:
            # The tails stand back meanwhile. If one of them is at it already, the later of the two has the last word.
            with log.turn_to_rebuild(), progress.reported("Rebuilding the copy", self.stderr) as tell:
                head = leaderboard.rebuild(why="manage.py rebuild_leaderboard", force=True, progress=tell)
        except (CopyUnusable, DatabaseError) as error:
            raise CommandError(str(error).strip()) from error
        # The open sockets hear of it as they hear of every change.
        signals.leaderboard_changed.send_robust(sender=Command, origin=head.origin, seq=head.seq)

        took_s = time.monotonic() - started
        self.stdout.write(f"Rebuilt {head.members} members at event {head.seq} in {took_s:.2f} s")
