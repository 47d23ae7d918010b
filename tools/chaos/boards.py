"""Let random histories of boards happen for some time, and compare both stores with the oracle whenever it looks."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import django
from django.db import connection
from redis import Redis
from rich.console import Console

from tools.manage import make_tables

from .world import environment, stores

SECONDS = 60
# With those that refer to them.
TABLES = "standings, boards, followers, blocks, score_events, user_scores, actions, leaderboards"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.chaos.boards", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"{SECONDS} by default")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first history; the next ones follow")
    parser.add_argument("--steps", type=int, default=300, help="of each history")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, stores(Path(folder)) as (postgresql, redis):
        env = environment(postgresql, redis.port, LOG_LEVEL="ERROR", DATA_DIR=f"{folder}/data")
        make_tables(env)
        os.environ |= env
        django.setup()
        try:
            return compare(redis.client, options.seconds, options.seed, options.steps)
        finally:
            connection.close()


def compare(redis: Redis, seconds: float, seed: int, steps: int) -> int:
    """Histories until the time is over or one of them goes wrong; the exit status."""
    from .differential import Run  # models can be imported only now

    console = Console()
    until = time.monotonic() + seconds
    histories = events = periods = 0
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
        redis.flushall()
        run = Run(seed + histories, redis)
        try:
            run.run(steps)
        except Exception:  # whatever it is, it must not happen
            console.print(f"[red]Boards: seed {seed + histories}[/] failed after {' '.join(run.told)}")
            console.print(traceback.format_exc(), markup=False)
            return 1
        histories += 1
        events += len(run.oracle.events)
        periods += run.compared
    console.print(
        f"Boards: {histories} histories with {events:,} events; {periods:,} periods compared whole, none differs"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
