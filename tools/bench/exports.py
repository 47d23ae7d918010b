"""The export: how fast a long log becomes files, from the start of the command to its end."""

from __future__ import annotations

import resource
import shutil
import statistics
import time
from collections.abc import Iterator

from tools.manage import manage

from .boards import FILL_SQL
from .figures import Row
from .world import World

USERS = 200_000


def export(world: World, events: int, rounds: int) -> Iterator[Row]:
    """All of a log to an empty folder. What starts Python and Django is part of it, two seconds, as it is for cron."""
    fill(world, events)
    found = [_round(world, events) for _ in range(rounds)]
    median = Row("export", f"{events:,} events of {USERS:,} users")
    for figure in found[0].figures:
        median.add(figure.name, statistics.median(row.value(figure.name) for row in found), figure.unit)
    yield median


def fill(world: World, events: int) -> None:
    """Leave a log of so many events."""
    world.fill(0)
    with world.postgresql.open() as database:
        database.execute(FILL_SQL, {"events": events, "users": USERS})
        database.execute("UPDATE leaderboards SET seq = %s, at = now()", [events])
        database.execute("VACUUM (ANALYZE) score_events")


def _round(world: World, events: int) -> Row:
    folder = world.folder / "export"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    manage(world.env, "export_events", "--to", str(folder))
    took_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    row = Row("export", "a round")
    row.add("rate", events / took_s, "events/s")
    row.add("took", took_s, "s")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row.add("CPU of the command", 1e6 * cpu_s / events, "µs each")
    row.add("files", sum(path.stat().st_size for path in folder.glob("day=*/*.parquet")) / events, "bytes each")
    shutil.rmtree(folder)
    return row
