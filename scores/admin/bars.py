"""Numbers over time as bars, in a small SVG image without scripts or inline styles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 640, 120  # of the plot; the labels are outside of it


class Bar(NamedTuple):
    """Of a moment for which there is a number."""

    x: float
    y: float
    width: float
    height: float
    when: str
    value: int


def bars(name: str, title: str, what: str, when: Sequence[str], values: Sequence[int | None]) -> SafeString:
    """The image, with a title and a description that say what it shows; `None` is drawn as a gap. `name` is unique on a page."""
    known = [(value, moment) for value, moment in zip(values, when, strict=True) if value is not None]
    most, at = max(known, key=lambda pair: pair[0], default=(0, ""))
    context = {
        "name": name,
        "title": title,
        "what": what,
        "bars": [
            bar for n, value in enumerate(values) if value and (bar := _bar(n, value, when[n], most, len(values)))
        ],
        "first": when[0],
        "last": when[-1],
        "newest": None if not values or values[-1] is None else intcomma(values[-1]),
        "most": intcomma(most),
        "at": at,
        "is_empty": not most,
        "width": WIDTH,
        "height": HEIGHT,
    }
    return render_to_string("admin/engagement/bars.svg", context)


def _bar(n: int, value: int, when: str, most: int, count: int) -> Bar:
    step = WIDTH / count
    height = max(HEIGHT * value / most, 1)  # one is more than none
    return Bar(n * step, HEIGHT - height, max(step * 0.8, 1), height, when, value)
