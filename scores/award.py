"""Reads what a body or an entry brings: points, an action whose points are in the catalogue, or a score with its metadata."""

from __future__ import annotations

import json
import re
from typing import Any

from django.conf import settings

from .exceptions import Malformed
from .models import ACTION_NAME, MAX_TOTAL

ACTION = re.compile(ACTION_NAME)

MAX_METADATA_BYTES = 1024
INVALID_BODY = "invalid_body"

# By error code, without the prefix `points_` or `score_`.
NUMBER_ERRORS = {
    "required": "This field is required.",
    "null": "Expected a whole number.",
    "is_boolean": "Expected a whole number, not true or false.",
    "is_float": "Expected a whole number without a fraction and an exponent.",
    "is_text": "Expected a whole number without quotes.",
    "not_integer": "Expected a whole number.",
    "too_small": "Expected at least {least}.",
    "too_large": "Expected at most {most}.",
}
# The code for a value that is not a number, by its type.
KINDS: dict[type, str] = {type(None): "null", bool: "is_boolean", float: "is_float", str: "is_text"}


def award(body: Any) -> tuple[int, str | None]:
    """The points and the action of a body: `points` and `None`, or 0 and its `action`."""
    if not isinstance(body, dict) or "action" not in body:
        return points_of(body), None
    if "points" in body:
        raise Malformed("points_and_action", "Send points or an action, not both.")
    action = body["action"]
    if not isinstance(action, str) or not ACTION.fullmatch(action):
        raise Malformed(
            "action_invalid", "The name of an action has 1 to 64 of the characters a-z, A-Z, 0-9 and _ . : -"
        )
    return 0, action


def points_of(body: Any) -> int:
    """The `points` of a body, 1 to MAX_POINTS."""
    return number_of(body, "points", 1, settings.MAX_POINTS)


def score_of(body: Any) -> int:
    """The `score` of a body: any number that is exact in every store."""
    return number_of(body, "score", -MAX_TOTAL, MAX_TOTAL)


def number_of(body: Any, field: str, least: int, most: int) -> int:
    """A field of a body that is a JSON integer and nothing similar: no `10.0`, `"10"` or `true`.

    Raises `Malformed`. A DRF serializer with this one field costs 6 us more.
    """
    if body is None:
        raise Malformed(INVALID_BODY, "This field may not be null.")
    if not isinstance(body, dict):
        detail = f"Invalid data. Expected a dictionary, but got {type(body).__name__}."
        raise Malformed(INVALID_BODY, detail, of="non_field_errors")
    code = "required"
    if field in body:
        number = body[field]
        if type(number) is not int:
            code = KINDS.get(type(number), "not_integer")
        elif number < least:
            code = "too_small"
        elif number > most:
            code = "too_large"
        else:
            return number
    raise Malformed(f"{field}_{code}", NUMBER_ERRORS[code].format(least=least, most=most), of=field)


def metadata_of(body: dict[str, Any]) -> str | None:
    """The `metadata` of a body as JSON, at most 1 KiB of it without blanks; `None` if there is none."""
    metadata = body.get("metadata")
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except ValueError as error:  # a number that overflows a double, or half of a surrogate pair
        raise Malformed("metadata_invalid", "Expected JSON that every parser reads alike.", of="metadata") from error
    if size > MAX_METADATA_BYTES:
        detail = f"Expected at most {MAX_METADATA_BYTES} bytes of JSON, and not {size}."
        raise Malformed("metadata_too_large", detail, of="metadata")
    return text
