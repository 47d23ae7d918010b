"""Typed readers of environment variables; all missing and wrong variables are reported at once, by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from limits import RateLimitItem, parse_many

from . import addresses

MAX_AT_ONCE = 1_000_000
NO_TIME = re.compile(r"(?:/|per)\s*0+\s*[a-z]", re.IGNORECASE)


def shown(value: str, *, of: str = "") -> str:
    """What a problem shows of a value: nothing if it, or the list that it is one of, may hold a password or a key."""
    return "(not shown: it has an @ or a ?)" if {"@", "?"} & {*value, *of} else repr(value)


class _Required:
    """The type of the mark for "no default", because `None` and "" are valid defaults."""


REQUIRED = _Required()


class Reader:
    """Reads variables and collects mistakes, so that the first start shows all of them.

    `NAME_FILE` is the path of a file that holds `NAME`, for container secrets. Values are taken as they are: a secret
    may begin with `$`.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def text(self, name: str, default: str | _Required = REQUIRED, *, hint: str = "") -> str:
        try:
            file = os.environ.get(f"{name}_FILE")
            value = (Path(file).read_text() if file else os.environ.get(name, "")).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
            self.problems.append(f"{name}_FILE={shown(file or '')}: {reason}")
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
        self.problems.append(f"{name}={shown(value)}: expected a whole number from {least} to {most}.")
        return default

    def choice(self, name: str, default: str, options: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value in options:
            return value
        self.problems.append(f"{name}={shown(value)}: expected one of {', '.join(options)}.")
        return default

    def rate(self, name: str, default: str, *, off: bool = False) -> RateLimitItem | None:
        """A rate such as `60/minute`, `10/5 seconds`. `None` for the value `off`, or if not set and `off` is true."""
        value = self.text(name, "off" if off else default)
        if value == "off":
            return None
        try:
            (rate,) = parse_many(value)
            if rate.amount < 1 or NO_TIME.search(value):  # the library takes 0 for 1
                raise ValueError
        except ValueError:
            self.problems.append(f"{name}={shown(value)}: expected a rate such as 60/minute or 10/5 seconds, or off.")
            return None
        return rate

    def cap(self, name: str, default: int, *, off: bool = False) -> int | None:
        """A number at once. `None` for the value `off`, and if not set while `off` is true."""
        value = self.text(name, "off" if off else str(default))
        if value == "off":
            return None
        if value.isascii() and value.isdecimal() and 1 <= int(value) <= MAX_AT_ONCE:
            return int(value)
        self.problems.append(f"{name}={shown(value)}: expected a whole number from 1 to {MAX_AT_ONCE}, or off.")
        return None

    def names(self, name: str, default: str | _Required = REQUIRED, *, hint: str = "") -> list[str]:
        """A list of texts separated by commas."""
        return [part.strip() for part in self.text(name, default, hint=hint).split(",") if part.strip()]

    def networks(self, name: str, default: str | _Required = REQUIRED) -> list[str]:
        """A list of addresses and networks of proxies."""
        return self._each(name, default, addresses.network)

    def hosts(self, name: str, default: str | _Required = REQUIRED, *, hint: str = "") -> list[str]:
        """A list of host names, as Django's ALLOWED_HOSTS has them."""
        return self._each(name, default, addresses.host, hint=hint)

    def origins(self, name: str, default: str | _Required = REQUIRED) -> list[str]:
        """A list of origins, as browsers send them."""
        return self._each(name, default, addresses.origin)

    def public_url(self, name: str, default: str) -> addresses.PublicURL | None:
        """The origin and path at which people find the service. `None` for an empty default."""
        value = self.text(name, default)
        try:
            return addresses.public_url(value) if value else None
        except ValueError as error:
            self.problems.append(f"{name}={shown(value)}: {error}.")
            return None

    def _each(self, name: str, default: str | _Required, parse: Callable[[str], str], *, hint: str = "") -> list[str]:
        found = []
        parts = self.names(name, default, hint=hint)
        for part in parts:
            try:
                found.append(parse(part))
            except ValueError as error:
                # A password may have commas, and so be in several parts.
                self.problems.append(f"{name}: {shown(part, of=','.join(parts))} {error}.")
        return found

    def finish(self) -> None:
        """Raises `ImproperlyConfigured` with all problems so far, if there are any."""
        if self.problems:
            raise ImproperlyConfigured(
                "\n".join(["The environment is incomplete or wrong:", *(f"  - {p}" for p in self.problems)])
            )
