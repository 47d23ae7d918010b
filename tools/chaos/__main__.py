"""Run the faults under load, print what they did, and keep the table in docs/reliability.md when asked to."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tools.programs import program

from .cycle import Line, run
from .faults import FAULTS
from .table import drawn, keep
from .world import world


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--only", default="", help="faults whose name contains this; boards: random histories of them")
    parser.add_argument("--cycles", type=int, help="of each fault, in the place of its own number")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/reliability.md")
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
    boards_differ = False
    if options.only.lower() in "boards":
        boards_differ = subprocess.run([sys.executable, "-m", "tools.chaos.boards"], check=False).returncode != 0
        if not lines:
            return int(boards_differ)
    console.print(drawn(lines))
    if options.write:
        keep(lines)
    return int(boards_differ or any(line.problems for line in lines))


if __name__ == "__main__":
    sys.exit(main())
