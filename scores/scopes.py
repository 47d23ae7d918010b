"""What a token may do beyond scoring for its own user: the values of the claim `scope` that mean something here."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """The first lets a service add points for any player. No address needs the others yet; they can be given already."""

    WRITE_ANY = "scores:write:any"
    BATCH = "scores:batch"
    MANAGE_BOARDS = "boards:manage"
    VOID_EVENTS = "events:void"
    READ_ANALYTICS = "analytics:read"
