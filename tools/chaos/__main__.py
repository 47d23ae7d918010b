"""Run the faults under load, print what they did, and keep the table in docs/reliability.md when asked to."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from leaderboard_site.local import StoreError
from tools.programs import program

from . import streams, table
from .cycle import Line, run
from .faults import FAULTS
from .world import world


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument(
        "--only",
        default="",
        help="faults whose name contains this; streams: those of ingestion; boards: random histories of them",
    )
    parser.add_argument("--cycles", type=int, help="of each fault, in the place of its own number")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of what the queue is filled with, and when it is hurt"
    )
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/reliability.md")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as by Ctrl-C: nothing that was started stays
    console = Console()
    if not console.is_terminal:
        console.width = 150  # of a file, which is as wide as it has to be
    lines = []
    faults = [fault for fault in FAULTS if options.only.lower() in fault.name.lower()]
    # One world after the other.
    for redis_class in dict.fromkeys(fault.redis_class for fault in faults):
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder, world(Path(folder), redis_class) as hurt:
            for fault in (fault for fault in faults if fault.redis_class is redis_class):
                if fault.needs and program(fault.needs) is None:
                    console.print(f"{fault.name}: there is no {fault.needs}")
                    continue
                line = Line(fault.name)
                lines.append(line)
                cycles = fault.cycles if options.cycles is None else options.cycles
                for cycle in range(cycles):
                    console.print(f"{fault.name}: {cycle + 1} of {cycles}")
                    for problem in run(fault, hurt, line):
                        console.print(f"  [red]{problem}")
    streamed = hurt_streams(console, options.only.lower(), options.cycles, options.seed)
    boards_differ = False
    if options.only.lower() in "boards":
        boards_differ = subprocess.run([sys.executable, "-m", "tools.chaos.boards"], check=False).returncode != 0
    shown = [(table.FAULTS, [table.cells(line) for line in lines]), (streams.FORM, [line.cells() for line in streamed])]
    for form, rows in shown:
        if rows:
            console.print(table.drawn(form, rows))
            if options.write:
                table.keep(form, rows)
    return int(boards_differ or any(line.problems for line in lines) or any(line.problems for line in streamed))


def hurt_streams(console: Console, only: str, cycles: int | None, seed: int) -> list[streams.Line]:
    lines: list[streams.Line] = []
    if not (faults := [fault for fault in streams.FAULTS if only in f"streams: {fault.name}".lower()]):
        return lines
    try:
        with (
            tempfile.TemporaryDirectory(prefix="chaos-") as folder,
            streams.own_broker(Path(folder)) as broker,
            streams.world(Path(folder), broker, seed) as hurt,
        ):
            for fault in faults:
                lines.append(line := streams.Line(fault.name))
                number = fault.cycles if cycles is None else cycles
                console.print(f"{fault.name}: {number} cycles, seed {seed}")
                for problem in streams.run(fault, hurt, line, cycles=number):
                    console.print(f"  [red]{problem}", highlight=False)
            for problem in streams.end(hurt, lines[-1]):
                console.print(f"  [red]{problem}", highlight=False)
    except StoreError as error:
        console.print(f"Streams: {error}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
