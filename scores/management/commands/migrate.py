"""`manage.py migrate`: Django's, which here may be interrupted anywhere, run again, and run twice at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from django.core.management.commands import migrate
from django.db import connections, transaction
from django.db.migrations import Migration

POLL_INTERVAL_S = 0.2
LOCK = "leaderboard migrate"


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        self._database: str = options["database"]
        with self._alone(), ExitStack() as self._transaction:
            super().handle(*args, **options)

    def migration_progress_callback(self, action: str, migration: Migration | None = None, fake: bool = False) -> None:
        """Put a migration and the record that it was applied into one transaction.

        Django commits a migration that has deferred statements (indexes, foreign keys) before it records it: killed in
        between, it would apply it again, to tables that are there.
        """
        if action in ("apply_start", "unapply_start") and migration is not None and migration.atomic:
            self._transaction.enter_context(transaction.atomic(using=self._database))
        super().migration_progress_callback(action, migration, fake)
        if action in ("apply_success", "unapply_success"):
            self._transaction.close()  # commits

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other `migrate` of this database runs, and keep others waiting.

        The lock belongs to a transaction, because behind a pooler only that keeps a session for itself, and is asked
        for again and again: an index that is built concurrently waits for every older statement, and would wait for
        one that waits for this lock.
        """
        with closing(connections[self._database].copy()) as session:
            session.set_autocommit(False)
            with session.cursor() as cursor:
                cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")
                while not self._got_lock(cursor):
                    time.sleep(POLL_INTERVAL_S)
            yield
            session.rollback()

    def _got_lock(self, cursor: Any) -> bool:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [LOCK])
        (acquired,) = cursor.fetchone()
        return bool(acquired)
