"""What was measured: rows of named figures with their units, for the table, the JSON and the plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

RATIO = "ratio"  # a case that was not measured: figures of one case by those of another


@dataclass(frozen=True)
class Figure:
    name: str
    unit: str
    value: float

    def __str__(self) -> str:
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 2
        return f"{self.value:,.{digits}f} {self.unit}".rstrip()


@dataclass
class Row:
    """One way of doing something, and what came of it."""

    scenario: str
    case: str
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str = "") -> None:
        self.figures.append(Figure(name, unit, value))

    def add_delays(self, delays_s: Sequence[float], prefix: str = "") -> None:
        """Median and tail, in milliseconds."""
        ordered = sorted(delays_s)
        for percent in (50, 99):
            self.add(f"{prefix}p{percent}", 1000 * percentile(ordered, percent), "ms")

    def value(self, name: str) -> float:
        return next(figure.value for figure in self.figures if figure.name == name)

    def as_json(self) -> dict[str, Any]:
        return {"scenario": self.scenario, "case": self.case, "figures": [asdict(figure) for figure in self.figures]}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest rank of an ordered sequence; zero of nothing."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
