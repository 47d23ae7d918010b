"""What a token may do beyond scoring for its own user: the values of the claim `scope` that mean something here."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """Whoever has one of them is a service. No address needs some of them yet; they can be given already."""

    WRITE_ANY = "scores:write:any"
    BATCH = "scores:batch"
    MANAGE_BOARDS = "boards:manage"
    VOID_EVENTS = "events:void"
    READ_ANALYTICS = "analytics:read"
