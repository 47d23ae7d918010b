"""Typed readers of environment variables; whatever is missing or wrong is told in one go, each by its name."""

from __future__ import annotations

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from limits import RateLimitItem, parse_many

MAX_AT_ONCE = 1_000_000


class _Required:
    """Stands where a default would; a type of its own, because `None` and "" are defaults somebody may want."""


REQUIRED = _Required()


class Reader:
    """Reads variables and remembers what is wrong, so that a first start shows every mistake and not just the first.

    `NAME_FILE` gives the path of a file to read `NAME` from, as container secrets do. Values are taken as they are: a
    secret may begin with `$`.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def text(self, name: str, default: str | _Required = REQUIRED, *, hint: str = "") -> str:
        try:
            file = os.environ.get(f"{name}_FILE")
            value = (Path(file).read_text() if file else os.environ.get(name, "")).strip()
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{name}_FILE: {error}")
            return ""
        if value:
            return value
        if not isinstance(default, _Required):
            return default
        self.problems.append(f"{name} is not set. {hint}".rstrip())
        return ""

    def secret(self, name: str, *, least: int, hint: str) -> str:
        """A required text of at least `least` bytes."""
        value = self.text(name, hint=hint)
        if value and len(value.encode()) < least:
            self.problems.append(f"{name} has {len(value.encode())} bytes; it needs at least {least}. {hint}")
        return value

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self.text(name, str(default))
        if value.isascii() and value.isdecimal() and least <= int(value) <= most:
            return int(value)
        self.problems.append(f"{name}={value!r}: expected a whole number from {least} to {most}.")
        return default

    def choice(self, name: str, default: str, options: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value in options:
            return value
        self.problems.append(f"{name}={value!r}: expected one of {', '.join(options)}.")
        return default

    def rate(self, name: str, default: str, *, off: bool = False) -> RateLimitItem | None:
        """How often, such as `60/minute` or `10/5 seconds`; `None` for `off`, and with `off` also if it is not set."""
        value = self.text(name, "off" if off else default)
        if value == "off":
            return None
        try:
            (rate,) = parse_many(value)
            if rate.amount < 1 or rate.get_expiry() < 1:
                raise ValueError
        except ValueError:
            self.problems.append(f"{name}={value!r}: expected such as 60/minute, 10/5 seconds, or off.")
            return None
        return rate

    def cap(self, name: str, default: int, *, off: bool = False) -> int | None:
        """How many at once; `None` for `off`, and with `off` also if it is not set."""
        value = self.text(name, "off" if off else str(default))
        if value == "off":
            return None
        if value.isascii() and value.isdecimal() and 1 <= int(value) <= MAX_AT_ONCE:
            return int(value)
        self.problems.append(f"{name}={value!r}: expected a whole number from 1 to {MAX_AT_ONCE}, or off.")
        return None

    def names(self, name: str, default: str | _Required = REQUIRED, *, hint: str = "") -> list[str]:
        """A list of texts separated by commas."""
        return [part.strip() for part in self.text(name, default, hint=hint).split(",") if part.strip()]

    def finish(self) -> None:
        """Raise `ImproperlyConfigured` with every problem met so far."""
        if self.problems:
            raise ImproperlyConfigured(
                "\n".join(["The environment needs a hand:", *(f"  - {p}" for p in self.problems)])
            )
