"""A strict JSON parser: refuses texts that two parsers could read differently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser

MAX_DEPTH = 16  # levels of nesting


class StrictJSONParser(BaseParser):
    """`application/json` in UTF-8 (RFC 8259), without duplicate keys, NaN or Infinity.

    Numbers keep their type: `10` is an int, `10.0` and `1e3` are floats, so that `award` can tell them apart.
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        _, _, parameters = (media_type or "").partition(";")
        for parameter in filter(None, (p.strip().lower() for p in parameters.split(";"))):
            name, _, value = parameter.partition("=")
            if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
                raise UnsupportedMediaType(media_type or "")
        return loads(stream.read())


def loads(body: bytes) -> Any:
    """The value of a JSON text. Raises `ParseError` with a specific code."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError("The body is not UTF-8.", "invalid_utf8") from error
    if text.startswith(
        "\ufeff"
    ):  # RFC 8259, section 8.1: senders must not add one, and parsers differ on what it means
        raise ParseError("The body begins with a byte order mark.", "byte_order_mark")
    # Before the decoder, which recurses: a thousand brackets would raise a RecursionError.
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ParseError(f"The JSON is nested deeper than {MAX_DEPTH} levels.", "json_too_deep")
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            detail = f"There is text after the JSON, at character {error.pos}."
            raise ParseError(detail, "trailing_text") from error
        raise ParseError(f"The body is not JSON: {error.msg} at character {error.pos}.", "invalid_json") from error
    except ValueError as error:  # an integer of more than 4,300 digits
        raise ParseError("The JSON contains a number that is too long.", "number_too_long") from error


def _depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ParseError("An object in the JSON has the same key twice.", "duplicate_key")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ParseError(f"{name} is not JSON.", "invalid_number")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
