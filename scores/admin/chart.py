"""A user's score over time, as a small picture that needs neither a script nor a style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from scores.models import ScoreEvent

WIDTH, HEIGHT = 640, 120  # of the plot; the labels are around it
NEWEST = 200  # events drawn


class Mark(NamedTuple):
    """An event that somebody else than the user caused, at its place in the plot."""

    x: float
    y: float
    event: ScoreEvent


def chart(newest_first: Sequence[ScoreEvent]) -> SafeString | None:
    """The totals after these events, as an SVG image with a title and a description; `None` without events."""
    if not newest_first:
        return None
    events = newest_first[::-1]
    points = placed(events)
    totals = [event.total for event in events]
    # Before the first of them there was another score, unless it was the user's first event: the line starts at its point.
    steps = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"] + [f"H{x:.1f}V{y:.1f}" for x, y in points[1:]]
    context = {
        "path": "".join(steps),
        "marks": [Mark(*at, event) for at, event in zip(points, events, strict=True) if event.actor],
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


def placed(events: Sequence[ScoreEvent]) -> list[tuple[float, float]]:
    """Where each event is in the plot: time to the right, totals upwards from the lowest to the highest."""
    seconds: list[float] = []
    for event in events:  # a clock may have gone back; the order has not
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
