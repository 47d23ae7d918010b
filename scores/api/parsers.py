"""How the API reads bodies: as strict JSON, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser

from scores import strict_json
from scores.exceptions import Malformed


class StrictJSONParser(BaseParser):
    """`application/json` in UTF-8 (RFC 8259), without duplicate keys, NaN or Infinity.

    Numbers keep their type: `10` is an int, `10.0` and `1e3` are floats, so that `award` can tell them apart.
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        refuse_other_charsets(media_type or "")
        return strict_json.loads(stream.read())


class NDJSONParser(BaseParser):
    """`application/x-ndjson` in UTF-8: one JSON text a line. A line that is none is its `Malformed`, in its place.

    Blank lines count for nothing, and the last line need not end.
    """

    media_type = "application/x-ndjson"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        refuse_other_charsets(media_type or "")
        return [_value_or_malformed(line) for line in stream.read().split(b"\n") if line.strip()]


def refuse_other_charsets(media_type: str) -> None:
    """Raise `UnsupportedMediaType` if the media type says that the text is not in UTF-8."""
    _, _, parameters = media_type.partition(";")
    for parameter in filter(None, (p.strip().lower() for p in parameters.split(";"))):
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMediaType(media_type)


def _value_or_malformed(line: bytes) -> Any:
    try:
        return strict_json.loads(line)
    except Malformed as error:
        return error
