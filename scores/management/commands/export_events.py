"""`manage.py export_events`: writes the log as Parquet files, for a warehouse or for DuckDB. See docs/analytics.md."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from scores.log.head import log
from scores.management import progress


class Command(BaseCommand):
    help = "Write the events that a folder does not have yet into Parquet files, by day. A second time it adds nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder, made if it is missing")
        parser.add_argument(
            "--ids", action="store_true", help="with user ids and metadata; by default keyed hashes, and no metadata"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:  # not above: everything else runs without it
            from scores.warehouse.export import export
        except ModuleNotFoundError as error:
            if error.name != "pyarrow":
                raise
            raise CommandError("pyarrow is not installed: pip install -r requirements-analytics.txt") from error
        from scores.warehouse.folder import Folder, Refusal
        from scores.warehouse.pseudonyms import Pseudonyms

        pseudonyms = None if options["ids"] else Pseudonyms.by_key(settings.EXPORT_KEY)
        started = time.monotonic()
        try:
            with progress.reporter("Exporting events", self.stderr) as report:
                exported = export(log, Folder(options["to"]), pseudonyms, report)
        except Refusal as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(str(error).strip()) from error
        except OSError as error:
            raise CommandError(f"{error.filename or options['to']}: {error.strerror or error}") from error

        for hole in exported.holes:
            self.stderr.write(f"No file had {hole}, so somebody deleted one. It is there again.")
        for lost in exported.lost:
            self.stderr.write(f"No file has {lost}: the log does not have that any more.")
        took_s = time.monotonic() - started
        self.stdout.write(
            f"Exported {exported.events} events in {exported.files} files in {took_s:.2f} s; "
            f"the folder ends with event {exported.last} of epoch {exported.epoch}"
        )
