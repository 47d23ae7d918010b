"""What was measured, told: a table on the terminal, JSON, and both with the plots in docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.servers import ROOT

from .figures import Row
from .plots import draw

DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: make bench -->", "<!-- end of the figures -->"
TITLES = {
    "writes": "Increments, 64 clients",
    "reads": "Reads, 64 clients",
    "fanout": "Frames",
    "storm": "Everybody connects at once",
    "slow": "Readers that do not read, 20 changes a second",
    "growth": "Boards of different sizes; reads one after the other",
    "boards": "Many boards, 1,000 increments a second; copies and standings at 2,000",
    "history": "A new board over a long log",
    "walls": "Boards of different sizes where a tenth has the same score; reads one after the other",
    "midnight": "Many boards begin a new period at once, 200 increments a second",
    "batch": "Increments, one or many a request, each with a key",
    "ingest": "A queue is drained",
    "export": "Files for a warehouse",
    "publish": "Events to a broker",
}


def show(rows: Sequence[Row], console: Console) -> None:
    for scenario, of_it in groupby(rows, key=lambda row: row.scenario):
        table = Table(title=TITLES[scenario], title_justify="left")
        for number, cells in enumerate(_cells(list(of_it))):
            if number == 0:
                for place, name in enumerate(cells):
                    table.add_column(name, justify="left" if place == 0 else "right")
            else:
                table.add_row(*cells)
        console.print(table)


def save(rows: Sequence[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "rows": [row.as_json() for row in rows]}, indent=1) + "\n")


def keep(rows: Sequence[Row]) -> None:
    """Put tables and plots between their marks in the document."""
    save(rows, DOCUMENT.with_suffix(".json"))
    parts = [machine() + "."]
    plots = {path.stem.removeprefix("bench-"): path for path in draw(rows, DOCUMENT.parent / "images")}
    for scenario, of_it in groupby(rows, key=lambda row: row.scenario):
        head, *lines = _cells(list(of_it))
        rule = ("---", *("---:" for _ in head[1:]))
        parts += [f"### {TITLES[scenario]}", "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))]
        if scenario in plots:
            parts.append(f"![{TITLES[scenario]}](images/{plots[scenario].name})")
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + "\n\n".join([BEGIN, *parts, END]) + after)


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _cells(rows: list[Row]) -> list[tuple[str, ...]]:
    """A head and a line for each row; a figure that a row lacks is left empty."""
    names = list(dict.fromkeys(figure.name for row in rows for figure in row.figures))
    lines = [{figure.name: str(figure) for figure in row.figures} for row in rows]
    return [
        ("", *names),
        *((row.case, *(line.get(name, "") for name in names)) for row, line in zip(rows, lines, strict=True)),
    ]
