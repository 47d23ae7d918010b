"""The definition of a board as requests, answers and TOML files have it, with all that can be wrong with it at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from django.conf import settings

from scores.exceptions import BoardInvalid, Mistake
from scores.models import ACTION_NAME, BOARD_NAME, MAX_TOTAL, RESERVED, Board

from .addresses import may_be_public
from .calendar import FIRST, LAST

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MAX_TITLE = 120
MAX_EVERY_HOURS = 24 * 366
MAX_KEEP = 10_000
MAX_SEASONS = 1_000
MAX_SETTLE_S = 30 * 24 * 3600
MAX_PLACE = 1_000  # that has a reward
MAX_URL = 500
SECRET_LENGTHS = (16, 200)
PLACES = re.compile("([1-9][0-9]{0,3})(?:-([1-9][0-9]{0,3}))?")
# By field, the attribute of a definition. What is in neither list can be changed at any time, as long as it is allowed.
FIELDS = {
    "name": "name",
    "title": "title",
    "fold": "fold",
    "order": "order",
    "ties": "ties",
    "period": "period",
    "zone": "zone",
    "cutTime": "cut_time",
    "cutWeekday": "cut_weekday",
    "everyHours": "every_hours",
    "anchor": "anchor",
    "seasons": "seasons",
    "stream": "stream",
    "action": "action",
    "least": "least",
    "most": "most",
    "submitters": "submitters",
    "keep": "keep",
    "isPublic": "is_public",
    "archived": "is_archived",
    "settleSeconds": "settle_s",
    "rewards": "rewards",
    "webhookUrl": "webhook_url",
    "webhookSecret": "webhook_secret",
}
CHANGEABLE = {
    "title",
    "seasons",
    "least",
    "most",
    "submitters",
    "keep",
    "isPublic",
    "archived",
    "settleSeconds",
    "rewards",
    "webhookUrl",
    "webhookSecret",
}
# Can be set and not read: no answer and no export has it, and whoever says nothing about it leaves it as it is.
WRITE_ONLY = "webhookSecret"
FIXED = {field: name for field, name in FIELDS.items() if field not in CHANGEABLE}
# Fields that mean something with some periods only, and those that a board needs there.
OF_PERIOD = {
    "cutTime": ("daily", "weekly", "monthly"),
    "cutWeekday": ("weekly",),
    "everyHours": ("hours",),
    "anchor": ("hours",),
    "seasons": ("season",),
}
NEEDED = ("everyHours", "anchor", "seasons")


class Season(NamedTuple):
    """From `starts_at` to just before `ends_at`, in UTC."""

    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A valid definition, as `parse` makes it."""

    name: str
    title: str = ""
    fold: str
    order: str = "higher"
    ties: str = "first"
    period: str = "forever"
    zone: str = "UTC"
    cut_time: time = time(0)
    cut_weekday: int = 0
    every_hours: int | None = None
    anchor: datetime | None = None
    seasons: tuple[Season, ...] = ()
    stream: str | None = None  # its own name, or that of the board whose stream it ranks; None: the default points
    action: str | None = None
    least: int | None = None
    most: int | None = None
    submitters: str = "players"
    keep: int | None = None
    is_public: bool = True
    is_archived: bool = False
    settle_s: int = 600
    rewards: Mapping[str, int] = dataclasses.field(default_factory=dict)
    webhook_url: str = ""
    webhook_secret: str = dataclasses.field(default="", repr=False)

    @property
    def has_stream(self) -> bool:
        """Of its own, which takes scores."""
        return self.stream == self.name

    @classmethod
    def of(cls, board: Board, seasons: Sequence[Season] = ()) -> Definition:
        """The definition of a board that exists, with the seasons of its periods."""
        same = {name: getattr(board, name) for name in FIELDS.values() if name not in ELSEWHERE}
        return cls(
            **same,
            seasons=tuple(seasons),
            is_archived=board.archived_at is not None,
        )

    def columns(self) -> dict[str, Any]:
        """The columns of the board that the definition decides."""
        return {name: getattr(self, name) for name in FIELDS.values() if name not in ELSEWHERE}


ELSEWHERE = ("seasons", "is_archived")


def document(definition: Definition) -> dict[str, Any]:
    """The definition by its fields, without those that mean nothing for it; `parse` reads it back."""
    values: dict[str, Any] = {field: getattr(definition, name) for field, name in FIELDS.items()}
    values["cutTime"] = f"{definition.cut_time:%H:%M}"
    values["cutWeekday"] = WEEKDAYS[definition.cut_weekday]
    values["anchor"] = text_of(definition.anchor)
    if definition.stream is None or definition.has_stream:
        values["stream"] = definition.has_stream
    values["seasons"] = [
        {"startsAt": text_of(season.starts_at), "endsAt": text_of(season.ends_at)} for season in definition.seasons
    ]
    values["rewards"] = dict(sorted(definition.rewards.items(), key=lambda reward: places_of(reward[0])))
    left_out = {field for field, periods in OF_PERIOD.items() if definition.period not in periods}
    left_out |= {field for field, value in values.items() if value is None}
    if not definition.has_stream:
        left_out.add("submitters")
    left_out |= {WRITE_ONLY, *(name for name in ("rewards", "webhookUrl") if not values[name])}
    return {field: value for field, value in values.items() if field not in left_out}


def secrets_of(definition: Definition) -> dict[str, Any]:
    """The fields that `document` leaves out although they are set."""
    return {WRITE_ONLY: definition.webhook_secret} if definition.webhook_secret else {}


def places_of(key: str) -> tuple[int, int]:
    """The first and the last place that a key of `rewards` names. Raises `ValueError`."""
    found = PLACES.fullmatch(key)
    if found is None:
        raise ValueError(key)
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last <= MAX_PLACE:
        raise ValueError(key)
    return first, last


def legible(key: str) -> str:
    """The start of a key of somebody's object, for an answer: halves of pairs, which JSON can name, have no UTF-8."""
    return key[:64].encode("utf-8", "replace").decode()


def text_of(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, with a `Z`."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse(values: object) -> Definition:
    """The definition that these fields make. `None` is as if the field were not there.

    Raises `BoardInvalid` with all mistakes.
    """
    if not isinstance(values, Mapping):
        raise BoardInvalid([Mistake("body", "wrong_type", "Expected an object with the fields of a board.")])
    given = {str(field): value for field, value in values.items() if value is not None}
    reader = Reader(given)
    reader.unknown()
    columns = reader.columns()
    reader.agree()
    if reader.mistakes:
        raise BoardInvalid(reader.mistakes)
    return Definition(**columns)


class Reader:
    """Reads fields one by one, and goes on after a mistake."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.mistakes: list[Mistake] = []
        self.read: dict[str, Any] = {}  # by attribute

    def columns(self) -> dict[str, Any]:
        for field, attribute in FIELDS.items():
            if field in self.given:
                value = READERS[field](self, field, self.given[field])
                if value is not None:
                    self.read[attribute] = value
        return self.read

    def wrong(self, field: str, code: str, sentence: str) -> None:
        self.mistakes.append(Mistake(field, code, sentence))

    def is_wrong(self, *fields: str) -> bool:
        return any(mistake.field in fields for mistake in self.mistakes)

    # Between fields

    def unknown(self) -> None:
        for field in sorted(self.given.keys() - FIELDS.keys()):
            self.wrong(legible(field), "unknown_field", "A board has no such field.")

    def agree(self) -> None:
        """What fields say together."""
        for field in ("name", "fold"):
            if field not in self.given:
                self.wrong(field, "required", "This field is required.")
        self._agree_about_periods()
        self._agree_about_source()
        self._agree_about_values()
        if self.read.get("webhook_url") and not self.read.get("webhook_secret") and not self.is_wrong(WRITE_ONLY):
            self.wrong(WRITE_ONLY, "required", "A webhook needs a secret, with which its messages are signed.")

    def _agree_about_periods(self) -> None:
        if self.is_wrong("period"):
            return
        period = self.read.get("period", "forever")
        for field, periods in OF_PERIOD.items():
            if field in self.given and period not in periods:
                self.wrong(field, "not_with_period", f"A board with the period {period} has no {field}.")
            elif field in NEEDED and period in periods and field not in self.given:
                self.wrong(field, "required", f"A board with the period {period} needs {field}.")
        if "keep" in self.given and period == "forever":
            self.wrong("keep", "not_with_period", "A board with the period forever has no ended periods to keep.")

    def _agree_about_source(self) -> None:
        stream = self.read.get("stream")
        if stream is not None and "action" in self.given:
            self.wrong("action", "not_with_stream", "A board counts a stream or an action, not both.")
        if stream is not None and stream == self.given.get("name"):
            return
        for field in ("least", "most", "submitters"):
            if field in self.given and not self.is_wrong("stream", field):
                self.wrong(field, "needs_stream", f"Only a board with a stream of its own has {field}.")

    def _agree_about_values(self) -> None:
        if self.is_wrong("least", "most", "fold"):
            return
        least, most = self.read.get("least"), self.read.get("most")
        if least is not None and most is not None and least > most:
            self.wrong("most", "below_least", "most is less than least.")
        if self.read.get("fold") == "sum":
            for field, value in (("least", least), ("most", most)):
                if value is not None and not 1 <= value <= settings.MAX_POINTS:
                    sentence = f"A sum adds points, so this is 1 to {settings.MAX_POINTS}."
                    self.wrong(field, "out_of_range", sentence)

    # Single values

    def text(self, field: str, value: Any) -> str | None:
        if not isinstance(value, str):
            self.wrong(field, "wrong_type", "Expected a text.")
            return None
        return value

    def choice(self, field: str, value: Any) -> str | None:
        choices = CHOICES[field]
        if isinstance(value, str) and value in choices:
            return value
        self.wrong(field, "not_a_choice", f"Expected one of {', '.join(choices)}.")
        return None

    def flag(self, field: str, value: Any) -> bool | None:
        if not isinstance(value, bool):
            self.wrong(field, "wrong_type", "Expected true or false.")
            return None
        return value

    def number(self, field: str, value: Any) -> int | None:
        least, most = RANGES[field]
        if type(value) is not int:
            self.wrong(field, "wrong_type", "Expected a whole number.")
        elif not least <= value <= most:
            self.wrong(field, "out_of_range", f"Expected {least} to {most}.")
        else:
            return int(value)
        return None

    def name(self, field: str, value: Any) -> str | None:
        name = self.text(field, value)
        if name is None:
            return None
        if not re.fullmatch(BOARD_NAME, name):
            self.wrong(
                field, "invalid", "A name has 1 to 64 of a-z, 0-9, _ and -, and starts with none of the last two."
            )
        elif name == RESERVED:
            self.wrong(field, "reserved", f"{RESERVED} is the default board.")
        return name

    def title(self, field: str, value: Any) -> str | None:
        title = self.text(field, value)
        if title is None:
            return None
        if len(title) > MAX_TITLE:
            self.wrong(field, "too_long", f"Expected at most {MAX_TITLE} characters.")
        elif not title.isprintable():  # control characters, NUL, and halves of pairs, which no table can hold
            self.wrong(field, "invalid", "A title has printable characters only.")
        return title

    def action(self, field: str, value: Any) -> str | None:
        action = self.text(field, value)
        if action is not None and not re.fullmatch(ACTION_NAME, action):
            self.wrong(field, "invalid", "The name of an action has 1 to 64 of a-z, A-Z, 0-9 and _ . : -")
        return action

    def stream(self, field: str, value: Any) -> str | None:
        if value is False:
            return None
        found = self.given.get("name") if value is True else value
        if value is True and not isinstance(found, str):
            return None  # the mistake is the name's
        if isinstance(found, str) and (value is True or (re.fullmatch(BOARD_NAME, found) and found != RESERVED)):
            return found
        self.wrong(
            field, "invalid", "Expected true, for a stream of the board's own, or the name of a board that has one."
        )
        return None

    def zone(self, field: str, value: Any) -> str | None:
        if isinstance(value, str) and value in zones():
            return value
        self.wrong(field, "unknown_zone", "Expected a time zone, such as UTC or Europe/Berlin.")
        return None

    def cut_time(self, field: str, value: Any) -> time | None:
        if isinstance(value, time) and value.tzinfo is None and (value.second, value.microsecond) == (0, 0):
            return value  # TOML has such
        if isinstance(value, str) and (found := re.fullmatch("([01][0-9]|2[0-3]):([0-5][0-9])", value)):
            return time(int(found[1]), int(found[2]))
        self.wrong(field, "invalid", 'Expected a time of day, such as "06:00".')
        return None

    def weekday(self, field: str, value: Any) -> int | None:
        if isinstance(value, str) and value in WEEKDAYS:
            return WEEKDAYS.index(value)
        self.wrong(field, "not_a_choice", f"Expected one of {', '.join(WEEKDAYS)}.")
        return None

    def moment(self, field: str, value: Any) -> datetime | None:
        try:
            found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
            if found.tzinfo is not None and FIRST < found < LAST:
                return found.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            pass
        self.wrong(field, "invalid", "Expected a moment with its offset, such as 2026-12-01T00:00:00Z.")
        return None

    def seasons(self, field: str, value: Any) -> tuple[Season, ...] | None:
        if not isinstance(value, Sequence) or isinstance(value, str):
            self.wrong(field, "wrong_type", "Expected a list of startsAt and endsAt.")
            return None
        # One that was archived before its first season has none left.
        least = 0 if self.given.get("archived") is True else 1
        if not least <= len(value) <= MAX_SEASONS:
            self.wrong(field, "out_of_range", f"Expected 1 to {MAX_SEASONS} seasons.")
            return None
        found = [self.season(f"{field}.{number}", season) for number, season in enumerate(value, 1)]
        seasons = tuple(season for season in found if season is not None)
        if len(seasons) == len(found):
            for number, (before, after) in enumerate(pairwise(seasons), 2):
                if after.starts_at < before.ends_at:
                    self.wrong(f"{field}.{number}", "overlapping", "This season starts before the last one ends.")
        return seasons

    def season(self, field: str, value: Any) -> Season | None:
        if not isinstance(value, Mapping) or value.keys() != {"startsAt", "endsAt"}:
            self.wrong(field, "wrong_type", "Expected startsAt and endsAt.")
            return None
        starts_at, ends_at = (self.moment(f"{field}.{key}", value[key]) for key in ("startsAt", "endsAt"))
        if starts_at is None or ends_at is None:
            return None
        if ends_at <= starts_at:
            self.wrong(field, "ends_before_start", "This season ends before it starts.")
            return None
        return Season(starts_at, ends_at)

    def rewards(self, field: str, value: Any) -> dict[str, int] | None:
        if not isinstance(value, Mapping):
            self.wrong(field, "wrong_type", 'Expected points by place, such as {"1": 500, "2-10": 50}.')
            return None
        taken: set[int] = set()
        for key, points in value.items():
            try:
                first, last = places_of(str(key))
            except ValueError:
                sentence = f"Expected a place or a range of places, 1 to {MAX_PLACE}, such as 3-10."
                self.wrong(field, "invalid", f"{legible(str(key))}: {sentence}")
            else:
                places = set(range(first, last + 1))
                if places & taken:
                    self.wrong(field, "overlapping", f"{min(places & taken)} is named twice.")
                taken |= places
            if type(points) is not int or not 1 <= points <= settings.MAX_POINTS:
                sentence = f"A reward is 1 to {settings.MAX_POINTS} points."
                self.wrong(field, "out_of_range", f"{legible(str(key))}: {sentence}")
        return {str(key): points for key, points in value.items()}

    def webhook_url(self, field: str, value: Any) -> str | None:
        url = self.text(field, value)
        if url is None or url == "":
            return url
        allowed = ("https", "http") if settings.WEBHOOK_ALLOW_PRIVATE else ("https",)
        try:
            parts = urlsplit(url)
            is_good = parts.scheme in allowed and bool(parts.hostname) and parts.port != 0
            is_good = is_good and parts.username is None and parts.password is None and not parts.fragment
        except ValueError:
            is_good = False
        if len(url) > MAX_URL:
            self.wrong(field, "too_long", f"Expected at most {MAX_URL} characters.")
        elif not is_good or not url.isascii() or not url.isprintable() or " " in url:
            self.wrong(field, "invalid", "Expected an https:// address in ASCII, without a user or a fragment.")
        elif not settings.WEBHOOK_ALLOW_PRIVATE and not may_be_public(parts.hostname or ""):
            self.wrong(
                field, "not_public", "Expected a host of the public internet, not this one or a private address."
            )
        return url

    def webhook_secret(self, field: str, value: Any) -> str | None:
        secret = self.text(field, value)
        least, most = SECRET_LENGTHS
        if secret and not (least <= len(secret) <= most and secret.isascii() and secret.isprintable()):
            self.wrong(field, "invalid", f"Expected {least} to {most} printable characters of ASCII.")
        return secret


CHOICES = {
    "fold": Board.Fold.values,
    "order": Board.Order.values,
    "ties": Board.Ties.values,
    "period": Board.PeriodKind.values,
    "submitters": Board.Submitters.values,
}
RANGES = {
    "everyHours": (1, MAX_EVERY_HOURS),
    "least": (-MAX_TOTAL, MAX_TOTAL),
    "most": (-MAX_TOTAL, MAX_TOTAL),
    "keep": (0, MAX_KEEP),
    "settleSeconds": (0, MAX_SETTLE_S),
}
READERS = {
    "name": Reader.name,
    "title": Reader.title,
    "zone": Reader.zone,
    "cutTime": Reader.cut_time,
    "cutWeekday": Reader.weekday,
    "anchor": Reader.moment,
    "seasons": Reader.seasons,
    "stream": Reader.stream,
    "action": Reader.action,
    "isPublic": Reader.flag,
    "archived": Reader.flag,
    "rewards": Reader.rewards,
    "webhookUrl": Reader.webhook_url,
    WRITE_ONLY: Reader.webhook_secret,
    **dict.fromkeys(CHOICES, Reader.choice),
    **dict.fromkeys(RANGES, Reader.number),
}


@cache
def zones() -> frozenset[str]:
    """The zones that exist here, without those that each host understands in its own way."""
    return frozenset(name for name in available_timezones() - {"localtime", "Factory"} if len(name) <= 64)
