"""An SVG of boxes and arrows. The same boxes and arrows give the same text, so that a test can compare it with the file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from html import escape
from typing import NamedTuple

from .boxes import BANDS, Band, Box
from .imports import Arrow

# In pixels
MARGIN = 36
COLUMN, COLUMN_GAP, COLUMNS = 196, 20, 5
BOX, STEP = 50, 90  # how high a box is, and how far it is from one row to the next
BAND_GAP = 32  # more, where a band begins or ends; the name of the band stands in it
LANE = 18  # between two arrows that are side by side
WIDTH = 2 * MARGIN + COLUMNS * (COLUMN + COLUMN_GAP) - COLUMN_GAP
SANS = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif"

COLOURS = {  # of a box: inside, border; of its band: inside
    "site": ("#dbeafe", "#3b82f6", "#f3f8ff"),
    "realtime": ("#f3e8ff", "#a855f7", "#faf5ff"),
    "scores": ("#dcfce7", "#22a55b", "#f3fdf6"),
    "store": ("#fef3c7", "#d97706", "#fffbeb"),
}
TITLE = "The packages of Leaderboard, and what imports what"
KEY = (
    "An arrow is an import, and each points down.",
    "At a store it is an import of its driver, in scores.",
    "Left out: arrows that a longer way implies.",
    "Drawn from the code by make architecture.",
)


class Point(NamedTuple):
    """Where an arrow passes: at `x`, straight down from `top` to `bottom`."""

    x: float
    top: float
    bottom: float


def drawn(boxes: Collection[Box], arrows: Collection[Arrow]) -> str:
    """ValueError for an arrow that would not point down."""
    last = max(box.row for box in boxes)
    height = top_of(last) + BOX + MARGIN
    sentences = (f"{source} imports {target}." for source, target in in_order(boxes, arrows))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" aria-labelledby="title description">',
        f'<title id="title">{TITLE}</title>',
        f'<desc id="description">{escape(" ".join(sentences))}</desc>',
        "<style>",
        f"text {{ font-family: {SANS}; fill: #0f172a }}",
        ".name { font-size: 17px; font-weight: 600; text-anchor: middle }",
        ".says { font-size: 14px; fill: #475569; text-anchor: middle }",
        ".band { font-size: 16px; font-weight: 600; fill: #334155 }",
        ".key { font-size: 14px; fill: #475569 }",
        ".arrow { fill: none; stroke: #64748b; stroke-width: 1.8; marker-end: url(#head) }",
        "</style>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 1 L10 5 L0 9 z" fill="#64748b"/></marker></defs>',
        # Its own ground, so that it reads the same on a light page and on a dark one.
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="12" fill="#ffffff" stroke="#e2e8f0"/>',
        *(band_drawn(band) for band in BANDS),
        *(path_drawn(points) for points in routes(boxes, arrows)),
        *(box_drawn(box) for box in boxes),
        *(
            f'<text class="key" x="{MARGIN}" y="{top_of(last) + 1 + 20 * number}">{line}</text>'
            for number, line in enumerate(KEY)
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


# Places


def left_of(box: Box) -> int:
    return MARGIN + box.column * (COLUMN + COLUMN_GAP)


def width_of(box: Box) -> int:
    return box.columns * (COLUMN + COLUMN_GAP) - COLUMN_GAP


def centre_of(box: Box) -> float:
    return left_of(box) + width_of(box) / 2


def top_of(row: int) -> int:
    borders = sum(band.first <= row for band in BANDS) + sum(band.last < row for band in BANDS)
    return MARGIN // 2 + row * STEP + borders * BAND_GAP


def in_order(boxes: Collection[Box], arrows: Collection[Arrow]) -> list[Arrow]:
    """From top to bottom and from left to right."""
    place = {box.name: (box.row, box.column) for box in boxes}
    return sorted(arrows, key=lambda arrow: (place[arrow[0]], place[arrow[1]]))


# Arrows


class Gate(NamedTuple):
    """A side of a box or a gap between boxes, through which arrows go side by side."""

    x: float
    top: int
    bottom: int
    most: float  # how far from `x` a lone arrow may go through, where that makes it straight


def routes(boxes: Collection[Box], arrows: Collection[Arrow]) -> Iterator[list[Point]]:
    """The points of each arrow: it leaves a box, passes the rows between through gaps, and ends at a box.

    Arrows that share a gate go through it in the order of where they come from and go to, so as not to cross there.
    """
    gates = {arrow: gates_of(boxes, arrow) for arrow in in_order(boxes, arrows)}
    sharing: dict[Gate, list[tuple[float, float, Arrow]]] = defaultdict(list)
    for arrow, passed in gates.items():
        for index, gate in enumerate(passed):
            beside = passed[max(0, index - 1) : index + 2]
            sharing[gate].append((mean(beside), mean(passed), arrow))
    for arrow, passed in gates.items():
        xs = [place_in(gate, arrow, [other for *_, other in sorted(sharing[gate])]) for gate in passed]
        for index, gate in enumerate(passed):
            if len(sharing[gate]) == 1:
                towards = xs[index + 1] if index == 0 else xs[index - 1]
                if abs(towards - gate.x) <= gate.most:
                    xs[index] = towards
        yield [Point(x, gate.top, gate.bottom) for x, gate in zip(xs, passed, strict=True)]


def place_in(gate: Gate, arrow: Arrow, order: list[Arrow]) -> float:
    spread = min(2 * LANE, 2 * gate.most / len(order))
    return gate.x + (order.index(arrow) - (len(order) - 1) / 2) * spread


def mean(gates: list[Gate]) -> float:
    return sum(gate.x for gate in gates) / len(gates)


def gates_of(boxes: Collection[Box], arrow: Arrow) -> list[Gate]:
    named = {box.name: box for box in boxes}
    above, below = (named[name] for name in arrow)
    if below.row <= above.row:
        raise ValueError(f"{above.name} imports {below.name}, which the picture has beside or above it")
    under, over = top_of(above.row) + BOX, top_of(below.row)
    gaps = [
        Gate(gap_in(boxes, row, above, below), top_of(row), top_of(row) + BOX, COLUMN / 4)
        for row in range(above.row + 1, below.row)
    ]
    return [
        Gate(centre_of(above), under, under, width_of(above) / 2 - LANE),
        *gaps,
        Gate(centre_of(below), over, over, width_of(below) / 2 - LANE),
    ]


def gap_in(boxes: Collection[Box], row: int, above: Box, below: Box) -> float:
    """The middle of the free column of `row` that is the smallest detour; of two, the one that is nearer to the start."""
    taken = {box.column + more for box in boxes if box.row == row for more in range(box.columns)}
    free = [MARGIN + column * (COLUMN + COLUMN_GAP) + COLUMN / 2 for column in range(COLUMNS) if column not in taken]
    start, end = centre_of(above), centre_of(below)
    return min(free, key=lambda x: (abs(x - start) + abs(x - end), abs(x - start)))


# Elements


def band_drawn(band: Band) -> str:
    top, bottom = top_of(band.first) - BAND_GAP, top_of(band.last) + BOX + BAND_GAP // 2
    x, width = MARGIN // 2, WIDTH - MARGIN
    _, border, inside = COLOURS[band.kind]
    return (
        f'<rect x="{x}" y="{top}" width="{width}" height="{bottom - top}" rx="10" fill="{inside}" stroke="{border}"'
        f' stroke-opacity="0.35"/><text class="band" x="{MARGIN}" y="{top + 22}">{band.name}</text>'
    )


def box_drawn(box: Box) -> str:
    inside, border, _ = COLOURS[box.kind]
    x, y, width, middle = left_of(box), top_of(box.row), width_of(box), centre_of(box)
    radius = BOX // 2 if box.kind == "store" else 7
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{BOX}" rx="{radius}" fill="{inside}" stroke="{border}"'
        f' stroke-width="1.5"/><text class="name" x="{middle:g}" y="{y + 21}">{escape(box.name)}</text>'
        f'<text class="says" x="{middle:g}" y="{y + 40}">{escape(box.says)}</text>'
    )


def path_drawn(points: list[Point]) -> str:
    start, *rest = points
    steps = [f"M{start.x:g} {start.bottom:g}"]
    y, x = start.bottom, start.x
    for point in rest:
        middle = (y + point.top) / 2
        steps.append(f"C{x:g} {middle:g} {point.x:g} {middle:g} {point.x:g} {point.top:g}")
        if point.bottom > point.top:
            steps.append(f"V{point.bottom:g}")
        x, y = point.x, point.bottom
    return f'<path class="arrow" d="{"".join(steps)}"/>'
