"""Messages of the ingest queue: what they ask for, and what becomes of what is refused."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from scores import strict_json
from scores.entries import MAX_BYTES, MAX_ENTRIES, change_of
from scores.exceptions import Malformed, ScoreError
from scores.log.ledger import Change
from scores.user_id import SERVICE_NAME, service_id

from .broker import Message

ANONYMOUS = service_id("broker")  # the actor of entries that do not say which service made them
MAX_DETAIL = 500  # characters


class Entry(NamedTuple):
    """An entry, and the change that it asks for; or why it asks for none, as may be true of a message as a whole."""

    change: Change | ScoreError
    content: Any  # of JSON, or the bytes of a message that is none


def entries_of(body: bytes) -> list[Entry]:
    """The entries of a message, which is one object or an array of 1 to 1,000."""
    try:
        if len(body) > MAX_BYTES:
            raise Malformed("message_too_large", f"A message may have at most {MAX_BYTES} bytes.")
        value = strict_json.loads(body)
        contents = value if isinstance(value, list) else [value]
        if not 1 <= len(contents) <= MAX_ENTRIES:
            raise Malformed("entries_out_of_range", f"Expected 1 to {MAX_ENTRIES:,} entries, not {len(contents):,}.")
    except Malformed as error:
        return [Entry(error, body)]
    return [Entry(_read(content), content) for content in contents]


def _read(content: Any) -> Change | ScoreError:
    """A message may come twice, so each entry has a key. `actor` is the service that made it: null, the player alone."""
    try:
        actor = ANONYMOUS
        if isinstance(content, dict) and "actor" in content:
            actor = _actor_of(content["actor"])
            content = {name: value for name, value in content.items() if name != "actor"}
        change = change_of(content, actor=actor)
        if change.idempotency_key is None:
            raise Malformed("key_required", "An entry of a message has a key.", of="key")
    except ScoreError as error:
        return error
    return change


def _actor_of(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not re.fullmatch(SERVICE_NAME, value):
        raise Malformed("actor_invalid", "An actor is the name of a service, or null.", of="actor")
    return service_id(value)


def dead_queue(name: str) -> str:
    """Where entries of the queue `name` go that are refused."""
    return f"{name}.dead"


def queued(change: Change) -> Message:
    """A player's own increment, to be read by `entries_of`."""
    asked: dict[str, Any] = {"points": change.points} if change.action is None else {"action": change.action}
    entry = {"userId": change.user_id, **asked, "key": change.idempotency_key, "actor": None}
    return Message(_encode(entry), key=change.user_id)


def dead_letter(entry: Entry, error: Exception, source: str) -> Message:
    """`entry` as it came, so that it can be sent to `source` once more, and why it was refused."""
    body = entry.content if isinstance(entry.content, bytes) else _encode(entry.content)
    code = error.code if isinstance(error, ScoreError) else "internal_error"
    headers = {"code": code, "detail": str(error)[:MAX_DETAIL], "source": source}
    return Message(body, headers=headers)


def _encode(value: Any) -> bytes:
    # Not every string that JSON can have is one of UTF-8: halves of a surrogate pair stay escaped.
    return json.dumps(value, separators=(",", ":")).encode()
