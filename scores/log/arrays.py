"""PostgreSQL's arrays, as the text that it reads.

psycopg looks a dumper up for every item, one to four microseconds of Python each. A batch has fifteen arrays, whose items
the writer dumps while it holds the lock on the log's head.
"""

from __future__ import annotations

from collections.abc import Sequence


def numbers(items: Sequence[int | None]) -> str:
    return "{" + ",".join(map(str, items)).replace("None", "NULL") + "}"


def booleans(items: Sequence[bool | None]) -> str:
    return "{" + ",".join(["NULL" if item is None else "t" if item else "f" for item in items]) + "}"


def texts(items: Sequence[str | None]) -> str:
    """Each text is in quotes: it may be empty, or the word NULL, or have any character of the syntax."""
    try:
        joined = '","'.join(items)  # type: ignore[arg-type]  # quicker than to ask each of them whether it is None
    except TypeError:
        return "{" + ",".join(["NULL" if item is None else _quoted(item) for item in items]) + "}"
    if not items or "\\" in joined or joined.count('"') > 2 * (len(items) - 1):
        return "{" + ",".join(map(_quoted, items)) + "}"  # type: ignore[arg-type]
    return '{"' + joined + '"}'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
