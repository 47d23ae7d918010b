"""Measure, print the table, and keep it with its plots in docs/performance.md."""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from . import report
from .scenarios import SCENARIOS, SMALL, Effort
from .world import world


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only", default=",".join(SCENARIOS), help=f"some of {','.join(SCENARIOS)}; the document stays as it is"
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="seconds instead of minutes, and figures of no worth; the document stays as it is",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as by Ctrl-C: nothing that was started stays
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    console = Console()
    if not console.is_terminal:
        console.width = 150  # of a file, which is as wide as it has to be
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, world(Path(folder)) as measured:
        for name in names:
            console.print(f"[bold]{name}[/]: {SCENARIOS[name].__doc__}")
            for row in SCENARIOS[name](measured, SMALL if options.small else Effort()):
                console.print(
                    f"  {row.case}: {', '.join(f'{figure.name} {figure}' for figure in row.figures)}", highlight=False
                )
                rows.append(row)
    report.show(rows, console)
    if options.json:
        report.save(rows, options.json)
    if set(names) == set(SCENARIOS) and not options.small:
        report.keep(rows)


if __name__ == "__main__":
    main()
