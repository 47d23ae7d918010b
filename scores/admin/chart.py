"""A user's score over time, as a small SVG image without scripts or inline styles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from scores.models import ScoreEvent

WIDTH, HEIGHT = 640, 120  # of the plot; the labels are outside of it
NEWEST = 200  # events drawn


class Mark(NamedTuple):
    """An event with an actor other than the user, at its position in the plot."""

    x: float
    y: float
    event: ScoreEvent


def chart(newest_first: Sequence[ScoreEvent]) -> SafeString | None:
    """The totals after these events, as an SVG image with a title and a description; `None` without events."""
    if not newest_first:
        return None
    events = newest_first[::-1]
    points = positions(events)
    totals = [event.total for event in events]
    # The line starts at the first drawn event: the score before it is not known here.
    steps = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"] + [f"H{x:.1f}V{y:.1f}" for x, y in points[1:]]
    context = {
        "path": "".join(steps),
        "marks": [Mark(*point, event) for point, event in zip(points, events, strict=True) if event.actor],
        "end": points[-1],
        "first": events[0],
        "last": events[-1],
        "count": len(events),
        "cut": events[0].total != events[0].points,
        "least": intcomma(min(totals)),
        "most": intcomma(max(totals)),
        "width": WIDTH,
        "height": HEIGHT,
    }
    return render_to_string("admin/scores/userscore/chart.svg", context)


def positions(events: Sequence[ScoreEvent]) -> list[tuple[float, float]]:
    """The position of each event in the plot: time to the right, totals upwards from the lowest to the highest."""
    seconds: list[float] = []
    for event in events:  # the clock may have gone back; the order of the events is right
        at = event.created_at.timestamp()
        seconds.append(max(at, seconds[-1]) if seconds else at)
    totals = [event.total for event in events]
    least, most = min(totals), max(totals)
    span_s = seconds[-1] - seconds[0]
    return [
        (
            WIDTH * (at - seconds[0]) / span_s if span_s else WIDTH * number / max(len(events) - 1, 1),
            HEIGHT - HEIGHT * (event.total - least) / (most - least) if most > least else HEIGHT / 2,
        )
        for number, (at, event) in enumerate(zip(seconds, events, strict=True))
    ]
