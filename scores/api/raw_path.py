"""The path of a request as it was sent: `%2F` in it is part of a segment, and not a separator."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import unquote_to_bytes

from rest_framework.exceptions import ParseError
from rest_framework.request import Request


def segment_after(request: Request, name: str, *, behind: int) -> str | None:
    """The segment that follows the segment `name`, with `behind` segments behind it; `None` if the path is another.

    Django's own path has `%2F` decoded, so it cannot tell an id with a slash from two segments.
    """
    scope = cast("Any", request).scope
    segments = scope["raw_path"].split(b"/")
    place = len(segments) - 1 - behind
    if place < 1 or segments[place - 1] != name.encode():
        return None
    try:
        return unquote_to_bytes(segments[place]).decode()
    except UnicodeDecodeError as error:
        raise ParseError("The path is not percent-encoded UTF-8.", "bad_request") from error
