"""Where the event loop's own time goes while 64 clients score: `python -m tools.bench.profile`, by cProfile, as a table.

Profiling costs more than half of the rate, and small functions more than large ones. So this says where to look and not
how fast it is. `--tree` profiles another checkout, for a before and an after.
"""

from __future__ import annotations

import argparse
import pstats
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.servers import ROOT

from .load import as_fast_as_it_goes, in_turn
from .scenarios import USERS, checked, run
from .world import World, world

ROWS = 15

Functions = dict[tuple[str, int, str], Any]  # by file, line and name: how pstats keeps calls and seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.profile", description=__doc__)
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to profile")
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    tree = options.tree.resolve()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, world(Path(folder)) as measured:
        measured.env["PYTHONPATH"] = str(tree)
        unasked, _ = profiled(measured, 0)
        asked, number = profiled(measured, options.seconds)
    show(asked, unasked, number, tree)


def profiled(measured: World, seconds: float) -> tuple[Functions, int]:
    """The functions of a server that is started, asked for so long, and ended; and how many increments it recorded."""
    written = measured.folder / "profile"
    # -P: not the tree that this runs in.
    command = (
        sys.executable,
        "-P",
        "-m",
        "cProfile",
        "-o",
        str(written),
        "-m",
        "leaderboard_site.server",
    )
    with measured.serving(command=command) as served:
        requests = in_turn([served.increment(f"user{number}") for number in range(USERS)])
        if seconds:
            checked(run(as_fast_as_it_goes(served.port, requests, seconds=seconds)))
    ((number,),) = measured.ask("SELECT count(*) FROM score_events")
    return pstats.Stats(str(written)).stats, number  # type: ignore[attr-defined]  # public, and not in typeshed


def show(asked: Functions, unasked: Functions, number: int, tree: Path) -> None:
    """What the increments added to the start and the end."""
    added = []
    for place, (_, calls, own_s, all_s, _) in asked.items():
        _, calls_before, own_before_s, all_before_s, _ = unasked.get(place, (0, 0, 0.0, 0.0, {}))
        added.append((own_s - own_before_s, all_s - all_before_s, calls - calls_before, name_of(*place, tree)))
    rows = sorted((row for row in added if "run_until_complete" not in row[-1]), reverse=True)  # which waits, mostly
    say("| function | calls for each | own time, µs | with what it calls, µs |")
    say("| --- | ---: | ---: | ---: |")
    for own_s, all_s, calls, name in rows[:ROWS]:
        say(f"| `{name}` | {calls / number:.1f} | {1e6 * own_s / number:.1f} | {1e6 * all_s / number:.1f} |")


def say(line: str) -> None:
    print(line)  # noqa: T201  a command


def name_of(path: str, line: int, function: str, tree: Path) -> str:
    if path == "~":  # in C
        return function
    _, _, of_package = path.rpartition("site-packages/")
    place = of_package if "site-packages/" in path else path.removeprefix(f"{tree}/")
    return f"{place}:{function}" if not place.startswith("/") else f"{Path(place).name}:{function}"


if __name__ == "__main__":
    main()
