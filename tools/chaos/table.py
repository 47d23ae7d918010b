"""What the faults did, as a table: on the terminal, and in docs/reliability.md."""

from __future__ import annotations

from rich.table import Table

from tools.servers import ROOT

from .cycle import Line
from .load import RATE

DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table: make chaos ARGS=--write -->", "<!-- end of the table -->"
HEAD = (
    "Fault",
    "Cycles",
    "Operations",
    "Lost",
    "Doubled",
    "Misled",
    "Longest answer",
    "Longest silence",
    "Longest time to heal",
)


def cells(line: Line) -> tuple[str, ...]:
    numbers = (line.cycles, line.operations, line.lost, line.doubled, line.misled)
    times = (line.slowest_answer_s, line.longest_silence_s, line.slowest_heal_s)
    return (line.fault, *(f"{number:,}" for number in numbers), *(f"{seconds:.2f} s" for seconds in times))


def drawn(lines: list[Line]) -> Table:
    made = Table(title=f"{RATE} increments per second, two workers")
    for number, name in enumerate(HEAD):
        made.add_column(name, justify="left" if number == 0 else "right")
    for line in lines:
        made.add_row(*cells(line))
    return made


def keep(lines: list[Line]) -> None:
    """Put the table between its marks in the document."""
    text = DOCUMENT.read_text()
    rows = [HEAD, ("---", *("---:" for _ in HEAD[1:])), *map(cells, lines)]
    made = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")
