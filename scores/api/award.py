"""Parses the body of an increment: points, or an action whose points are in the catalogue."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.settings import api_settings

from scores.models import ACTION_NAME

ACTION = re.compile(ACTION_NAME)

# By error code, without the prefix `points_`.
POINTS_ERRORS = {
    "required": "This field is required.",
    "null": "Expected a whole number.",
    "is_boolean": "Expected a whole number, not true or false.",
    "is_float": "Expected a whole number without a fraction and an exponent.",
    "is_text": "Expected a whole number without quotes.",
    "not_integer": "Expected a whole number.",
    "too_small": "Expected at least 1.",
    "too_large": "Expected at most {most}.",
}
# The code for a value that is not a number, by its type.
KINDS: dict[type, str] = {type(None): "null", bool: "is_boolean", float: "is_float", str: "is_text"}


def award(body: Any) -> tuple[int, str | None]:
    """The points and the action of a body: `points` and `None`, or 0 and its `action`."""
    if not isinstance(body, dict) or "action" not in body:
        return points_of(body), None
    if "points" in body:
        raise ParseError("Send points or an action, not both.", "points_and_action")
    action = body["action"]
    if not isinstance(action, str) or not ACTION.fullmatch(action):
        raise ParseError(
            "The name of an action has 1 to 64 of the characters a-z, A-Z, 0-9 and _ . : -", "action_invalid"
        )
    return 0, action


def points_of(body: Any) -> int:
    """The `points` of a body, 1 to MAX_POINTS: a JSON integer and nothing similar.

    So no `10.0`, `"10"` or `true`. Raises `ValidationError`. A DRF serializer with this one field costs 6 us more.
    """
    if body is None:
        raise ValidationError("This field may not be null.", "null")
    if not isinstance(body, dict):
        detail = f"Invalid data. Expected a dictionary, but got {type(body).__name__}."
        raise ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [detail]}, "invalid")
    if "points" not in body:
        raise points_error("required")
    points = body["points"]
    if type(points) is not int:
        raise points_error(KINDS.get(type(points), "not_integer"))
    if points < 1:
        raise points_error("too_small")
    if points > settings.MAX_POINTS:
        raise points_error("too_large")
    return points


def points_error(code: str) -> ValidationError:
    return ValidationError({"points": [POINTS_ERRORS[code].format(most=settings.MAX_POINTS)]}, code)
