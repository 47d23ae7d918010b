"""User ids: which strings the stores, the frames and the page can all carry, and which of them no player may have."""

from __future__ import annotations

import unicodedata
from typing import TypeGuard

MAX_LENGTH = 255  # characters
SERVICE_NAME = "[A-Za-z0-9_.-]{1,64}"
SERVICE_PREFIX = "service:"  # a namespace of its own for the actors of service tokens: no player's id begins with it
# Of the actors that give a board's rewards. With a blank, which no name of a service has: nobody else can be such an actor.
REWARDER_PREFIX = f"{SERVICE_PREFIX}board "
REPLACEMENT = "\ufffd"  # stands for text that somebody could not read: two different ids may have become the same
DOT_SEGMENTS = frozenset((".", ".."))


def is_user_id(value: object) -> TypeGuard[str]:
    """Whether `value` is storable, and has neither dot segments nor the replacement character U+FFFD.

    Clients and proxies resolve `.` and `..` in the path of a URL, percent-encoded or not (RFC 3986, section 5.2.4): a
    request for `/users/../scores/increment` arrives as one for another address.
    """
    return (
        is_storable(value)
        and REPLACEMENT not in value
        and ("." not in value or DOT_SEGMENTS.isdisjoint(value.split("/")))
    )


def is_storable(value: object) -> TypeGuard[str]:
    """Whether `value` is 1 to 255 characters in normal form C, without control characters or surrogates.

    Without NFC, two ids could look the same and have different ranks. PostgreSQL refuses NUL, and UTF-8 has no
    surrogates. This is enough to look for a user whom an earlier version let in.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_LENGTH:
        return False
    if value.isascii():
        return value.isprintable()
    return unicodedata.is_normalized("NFC", value) and not any(unicodedata.category(c) in ("Cc", "Cs") for c in value)


def is_player_id(value: object) -> TypeGuard[str]:
    """Whether `value` is a user id that a player may have: one that names no service."""
    return is_user_id(value) and not is_service(value)


def service_id(name: str) -> str:
    """The user id of a service, as events, limits and blocks name it."""
    return f"{SERVICE_PREFIX}{name}"


def is_service(user_id: str) -> bool:
    """Whether the id names a service, which acts for players and has no score of its own."""
    return user_id.startswith(SERVICE_PREFIX)
