"""The form of a board: the fields of its definition. What is wrong with them, `boards.documents` says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

from django import forms

from scores.boards.documents import MAX_TITLE, WEEKDAYS, Definition, document, zones
from scores.exceptions import Mistake
from scores.models import Board

# Fields that can change; the others are only shown once the board exists.
OF_ALL = ("title", "isPublic")
OF_STREAMS = ("least", "most", "submitters")
OF_PERIODS = ("keep", "settleSeconds", "rewards", "webhookUrl", "webhookSecret")
LABELS = {
    "name": "Name",
    "title": "Title",
    "fold": "Fold",
    "order": "Order",
    "ties": "Ties",
    "period": "Period",
    "zone": "Time zone",
    "cutTime": "Cut time",
    "cutWeekday": "Cut weekday",
    "everyHours": "Every hours",
    "anchor": "Anchor",
    "seasons": "Seasons",
    "stream": "Stream of its own",
    "action": "Action",
    "least": "Least",
    "most": "Most",
    "submitters": "Submitters",
    "keep": "Keep",
    "isPublic": "Public",
    "settleSeconds": "Settling seconds",
    "rewards": "Rewards",
    "webhookUrl": "Webhook URL",
    "webhookSecret": "Webhook secret",
    "archived": "Archived",
}
HELP = {
    "name": "In addresses: 1 to 64 of a-z, 0-9, _ and -. It cannot change any more.",
    "title": f"For people; at most {MAX_TITLE} characters.",
    "fold": "How the events of a player become a score: their sum, the best, or the latest.",
    "order": "Which scores are better.",
    "ties": "Who is ahead with the same score: who reached it first, or by id.",
    "zone": "Where days, weeks and months are cut.",
    "cutTime": "With daily, weekly and monthly periods, such as 06:00. Empty: midnight.",
    "cutWeekday": "With weekly periods. Empty: Monday.",
    "everyHours": "With the period hours: how long each is.",
    "anchor": "With the period hours: where the first starts, such as 2026-12-01T00:00:00Z.",
    "seasons": "With the period season: a line for each, with its start and end, such as "
    "2026-12-01T00:00:00Z 2027-01-01T00:00:00Z. Those that have begun cannot change.",
    "stream": "Its own scores, which are submitted to it. If not, it counts the default points.",
    "action": "Counts only the points of this action. Empty: all.",
    "least": "Of one submission to a stream of its own.",
    "most": "Of one submission to a stream of its own.",
    "submitters": "To a stream of its own: players and game servers, or game servers only.",
    "keep": "How many ended periods are kept. Empty: all.",
    "isPublic": "Anybody may see it. If not, a token is needed.",
    "settleSeconds": "From the end of a period until its results are final. Empty: 600.",
    "rewards": "Points by place when a period closes: a line for each place or range of places, such as 1 500 and 3-10 50.",
    "webhookUrl": "Is told when a period closes. https:// in the public internet.",
    "webhookSecret": "Signs what the webhook is told. Nobody can read it again; empty: as it is.",
}


class BoardForm(forms.Form):
    """Fields by the names of `names`. `seen` is the definition that the form was made of, of a board that exists."""

    seen = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: Any = None, *, names: Collection[str], of: Definition | None = None) -> None:
        initial = initial_of(of) if of else {"ties": "first", "order": "higher", "zone": "UTC", "isPublic": True}
        super().__init__(data, initial=initial)
        for name, field in _fields().items():
            if name in names:
                field.label, field.help_text, field.required = LABELS[name], HELP.get(name, ""), False
                self.fields[name] = field

    def values(self) -> dict[str, Any]:
        """What was entered, as `documents.parse` reads it: `None` where nothing was."""
        values = {name: self.cleaned_data[name] for name in self.fields if name != "seen"}
        values = {name: None if value == "" else value for name, value in values.items()}
        if "stream" in values and not values["stream"]:
            values["submitters"] = None  # which the form always sends
        if values.get("seasons") is not None:
            values["seasons"] = [_season(line) for line in values["seasons"].splitlines() if line.strip()]
        if values.get("rewards") is not None:
            values["rewards"] = _rewards(values["rewards"])
        if values.get("webhookSecret") is None:
            values.pop("webhookSecret", None)  # as it is
        return values

    def take(self, mistakes: Sequence[Mistake]) -> None:
        """Show each mistake at its field."""
        for mistake in mistakes:
            name, _, part = mistake.field.partition(".")
            number = part.partition(".")[0]
            sentence = f"Line {number}: {mistake.sentence}" if number else mistake.sentence
            self.add_error(name if name in self.fields else None, sentence)


def changeable(definition: Definition) -> set[str]:
    """The fields of this board that its page can change. `archived` has a page of its own."""
    names = set(OF_ALL)
    if definition.has_stream and not definition.is_archived:
        names.update(OF_STREAMS)
    if definition.period != Board.PeriodKind.FOREVER:
        names.update(OF_PERIODS)
    if definition.period == Board.PeriodKind.SEASON and not definition.is_archived:
        names.add("seasons")
    return names


def initial_of(definition: Definition) -> dict[str, Any]:
    """By field, as text where people edit text; `seen` tells this definition from all others."""
    values = document(definition)
    seen = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    if (seasons := values.get("seasons")) is not None:  # without any: archived before the first
        values["seasons"] = "\n".join(f"{season['startsAt']} {season['endsAt']}" for season in seasons)
    if rewards := values.get("rewards"):
        values["rewards"] = "\n".join(f"{places} {points}" for places, points in rewards.items())
    return values | {"seen": seen}


def fixed_of(definition: Definition, form_fields: Collection[str]) -> list[tuple[str, str | int]]:
    """Label and value of the fields that the form does not have."""
    values = initial_of(definition)
    return [
        (label, _worded(values[name]))
        for name, label in LABELS.items()
        if name in values and name not in form_fields and values[name] != ""
    ]


def _worded(value: str | int) -> str | int:
    if isinstance(value, bool):  # asked for by type: 1 == True
        return "yes" if value else "no"
    return value


def _season(line: str) -> Any:
    parts = line.split()
    return {"startsAt": parts[0], "endsAt": parts[1]} if len(parts) == 2 else line


def _rewards(text: str) -> Any:
    """By places; the text itself if it has another form, or names places twice."""
    pairs = [line.split() for line in text.splitlines() if line.strip()]
    is_whole = all(len(pair) == 2 and pair[1].isdecimal() and len(pair[1]) < 20 for pair in pairs)
    if is_whole and len({pair[0] for pair in pairs}) == len(pairs):
        return {places: int(points) for places, points in pairs}
    return text


def _fields() -> dict[str, forms.Field]:
    """New ones each time: a form changes its fields."""
    return {
        "name": forms.CharField(),
        "title": forms.CharField(),
        "fold": _choice(Board.Fold.values),
        "order": _choice(Board.Order.values),
        "ties": _choice(Board.Ties.values),
        "period": _choice(Board.PeriodKind.values),
        "zone": _choice(sorted(zones())),
        "cutTime": forms.CharField(),
        "cutWeekday": _choice(["", *WEEKDAYS]),
        "everyHours": forms.IntegerField(),
        "anchor": forms.CharField(),
        "seasons": forms.CharField(widget=forms.Textarea(attrs={"rows": 6, "cols": 60})),
        "stream": forms.BooleanField(),
        "action": forms.CharField(),
        "least": forms.IntegerField(),
        "most": forms.IntegerField(),
        "submitters": _choice(Board.Submitters.values),
        "keep": forms.IntegerField(),
        "isPublic": forms.BooleanField(),
        "settleSeconds": forms.IntegerField(),
        "rewards": forms.CharField(widget=forms.Textarea(attrs={"rows": 4, "cols": 30})),
        "webhookUrl": forms.CharField(),
        "webhookSecret": forms.CharField(widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})),
    }


def _choice(values: Sequence[str]) -> forms.ChoiceField:
    return forms.ChoiceField(choices=[(value, value or "—") for value in values])
