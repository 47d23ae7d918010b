"""Whether the database has all the migrations that this code was written for."""

from __future__ import annotations

import asyncio

from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

PATIENCE_S = 1.0


class Migrations:
    """Asks the database until it has all migrations, then never again: they are not reverted under a running server."""

    def __init__(self) -> None:
        self._applied = False
        self._asking: asyncio.Task[bool | None] | None = None

    async def are_applied(self) -> bool | None:
        """Returns `None` if the database does not answer within `PATIENCE_S`. All callers share one asking thread."""
        if self._applied:
            return True
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(has_none_pending))
        done, _ = await asyncio.wait({self._asking}, timeout=PATIENCE_S)
        answer = self._asking.result() if done else None
        self._applied = answer is True
        return answer


def has_none_pending() -> bool | None:
    """Returns `None` if the database does not answer. It blocks and closes its connection: call it in a thread."""
    try:
        return not missing()
    except DatabaseError:
        return None
    finally:
        connection.close()


def missing() -> list[str]:
    """The names of the migrations that are not applied yet. Raises what the database raises."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


migrations = Migrations()
