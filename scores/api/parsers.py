"""One JSON, read one way: what two readers could understand differently is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser

DEEPEST = 16  # levels of nesting


class StrictJSONParser(BaseParser):
    """`application/json` in UTF-8 (RFC 8259), without duplicate keys, NaN or Infinity.

    Numbers keep their kind: `10` is an int, `10.0` and `1e3` are floats, so that `award` can tell.
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
    """The value of a JSON text; raises `ParseError` with a code that says what is wrong."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError("The body is not UTF-8.", "invalid_utf8") from error
    if text.startswith("\ufeff"):  # RFC 8259, section 8.1: nobody may send one, and readers differ on what it means
        raise ParseError("The body begins with a byte order mark.", "byte_order_mark")
    # Before the decoder, which recurses: a thousand brackets would end as a RecursionError.
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise ParseError(f"The JSON is nested deeper than {DEEPEST} levels.", "json_too_deep")
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            detail = f"The body goes on after its JSON, at character {error.pos}."
            raise ParseError(detail, "trailing_text") from error
        raise ParseError(f"The body is not JSON: {error.msg} at character {error.pos}.", "invalid_json") from error
    except ValueError as error:  # an integer of more than 4,300 digits
        raise ParseError("The JSON holds a number that is too long.", "number_too_long") from error


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
        raise ParseError("The JSON has an object with a key twice.", "duplicate_key")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ParseError(f"{name} is not JSON.", "invalid_number")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
