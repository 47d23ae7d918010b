"""The figures as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")  # no screen is needed, and a text file is what a repository likes
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import RATIO, Row

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.alpha": 0.3,
    "svg.hashsalt": "leaderboard",  # the same picture is the same file
}
RATES = {  # by scenario
    "batch": "One or many a request: increments a second",
    "ingest": "Drained from a queue: increments a second",
    "publish": "Published: events a second",
}
INK, ACCENT, SOFT = "#1f2937", "#0f766e", "#99c9c4"


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw what there are rows for; returns the files."""
    of = {
        name: [row for row in rows if row.scenario == name] for name in ("writes", "fanout", "growth", "boards", *RATES)
    }
    drawn = []
    with plt.rc_context(STYLE):
        if of["writes"]:
            drawn.append(_bars(of["writes"], folder / "bench-writes.svg", "Increments: delay in milliseconds"))
        if of["fanout"]:
            drawn.append(_bars(of["fanout"], folder / "bench-fanout.svg", "From POST to frame: delay in milliseconds"))
        if of["boards"]:
            title = "Increments, 1,000 a second: delay in milliseconds"
            measured = [row for row in of["boards"] if row.case != RATIO]
            drawn.append(_bars(measured, folder / "bench-boards.svg", title))
        for scenario, title in RATES.items():
            if rated := [row for row in of[scenario] if any(figure.name == "rate" for figure in row.figures)]:
                drawn.append(_rates(rated, folder / f"bench-{scenario}.svg", title))
        if len(of["growth"]) > 1:
            drawn.append(_growth(of["growth"], folder / "bench-growth.svg"))
    return drawn


def _bars(rows: Sequence[Row], path: Path, title: str) -> Path:
    figure, axes = plt.subplots(figsize=(8, 0.6 * len(rows) + 1.4))
    places = range(len(rows))
    for offset, name, colour in ((-0.2, "p50", ACCENT), (0.2, "p99", SOFT)):
        bars = axes.barh(
            [place + offset for place in places], [row.value(name) for row in rows], 0.38, color=colour, label=name
        )
        axes.bar_label(bars, fmt="%.1f", padding=3, color=INK)
    axes.set_yticks(list(places), [row.case for row in rows])
    axes.legend(frameon=False)
    return _lying(figure, axes, path, title)


def _rates(rows: Sequence[Row], path: Path, title: str) -> Path:
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(rows) + 1.2))
    bars = axes.barh([row.case for row in rows], [row.value("rate") for row in rows], 0.6, color=ACCENT)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, color=INK)
    return _lying(figure, axes, path, title)


def _lying(figure: Figure, axes: Axes, path: Path, title: str) -> Path:
    """Of bars that lie, the first one above."""
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.grid(axis="y", visible=False)
    axes.set_title(title, loc="left")
    return _save(figure, path)


def _growth(rows: Sequence[Row], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(8, 4))
    users = [float(row.case.split()[0].replace(",", "")) for row in rows]
    for name, colour, line in (
        ("top 10", ACCENT, "-"),
        ("rank", "#b45309", "-"),
        ("page", "#4338ca", "-"),
        ("top 10 without Redis", ACCENT, ":"),
        ("rank without Redis", "#b45309", ":"),
        ("page without Redis", "#4338ca", ":"),
    ):
        axes.plot(users, [row.value(name) for row in rows], line, color=colour, marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("users on the board")
    axes.set_title("One read: median in milliseconds", loc="left")
    axes.legend(frameon=False, ncols=2)
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return path
