"""What the faults did, as tables: on the terminal, and in docs/reliability.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from tools.servers import ROOT

from .cycle import Line
from .load import RATE

DOCUMENT = ROOT / "docs" / "reliability.md"
END = "<!-- end of the table -->"


class Form(NamedTuple):
    """A table without its rows."""

    title: str
    begin: str  # the mark in the document
    head: Sequence[str]


FAULTS = Form(
    f"{RATE} increments per second, two workers",
    "<!-- table: make chaos ARGS=--write -->",
    (
        "Fault",
        "Cycles",
        "Operations",
        "Lost",
        "Doubled",
        "Misled",
        "Longest answer",
        "Longest silence",
        "Longest time to heal",
    ),
)


def cells(line: Line) -> tuple[str, ...]:
    numbers = (line.cycles, line.operations, line.lost, line.doubled, line.misled)
    times = (line.slowest_answer_s, line.longest_silence_s, line.slowest_heal_s)
    return (line.fault, *(f"{number:,}" for number in numbers), *(f"{seconds:.2f} s" for seconds in times))


def drawn(form: Form, rows: Sequence[Sequence[str]]) -> Table:
    made = Table(title=form.title)
    for number, name in enumerate(form.head):
        made.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        made.add_row(*row)
    return made


def keep(form: Form, rows: Sequence[Sequence[str]]) -> None:
    """Put the table between its marks in the document."""
    text = DOCUMENT.read_text()
    lines = [form.head, ("---", *("---:" for _ in form.head[1:])), *rows]
    made = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    before, _, rest = text.partition(form.begin)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{form.begin}\n\n{made}\n\n{END}{after}")
