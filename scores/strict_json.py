"""A strict JSON parser: refuses texts that two parsers could read differently."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, NoReturn

from .exceptions import Malformed

MAX_DEPTH = 16  # levels of nesting

# A string, also one that never ends. Without alternatives in a repetition, which would cost memory for each character.
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
ONE_KIND = bytes.maketrans(b"[]", b"{}")
(OPEN,) = b"{"


def loads(body: bytes) -> Any:
    """The value of a JSON text. Raises `Malformed` with a specific code."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("invalid_utf8", "The body is not UTF-8.") from error
    if text.startswith(
        "\ufeff"
    ):  # RFC 8259, section 8.1: senders must not add one, and parsers differ on what it means
        raise Malformed("byte_order_mark", "The body begins with a byte order mark.")
    # Before the decoder, which recurses: a thousand brackets would raise a RecursionError.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_too_deep(body):
        raise Malformed("json_too_deep", f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            detail = f"There is text after the JSON, at character {error.pos}."
            raise Malformed("trailing_text", detail) from error
        raise Malformed("invalid_json", f"The body is not JSON: {error.msg} at character {error.pos}.") from error
    except ValueError as error:  # an integer of more than 4,300 digits
        raise Malformed("number_too_long", "The JSON contains a number that is too long.") from error


def _is_too_deep(body: bytes) -> bool:
    # Where nothing is escaped, each quote begins or ends a string; to look at each string takes longer than to decode them.
    outside = STRING.sub(b"", body) if b"\\" in body else b"".join(body.split(b'"')[::2])
    brackets = rest = outside.translate(ONE_KIND, NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        rest = rest.replace(b"{}", b"")  # the innermost level
    # What is left is of a deeper level, or the brackets are no pairs.
    return bool(rest) and max(accumulate(1 if bracket == OPEN else -1 for bracket in brackets)) > MAX_DEPTH


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Malformed("duplicate_key", "An object in the JSON has the same key twice.")
    return result


def _no_constant(name: str) -> NoReturn:
    raise Malformed("invalid_number", f"{name} is not JSON.")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
