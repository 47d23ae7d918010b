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
    if items and None not in items:
        joined = '","'.join(items)  # type: ignore[arg-type]
        if "\\" not in joined and joined.count('"') == 2 * (len(items) - 1):  # nothing needs an escape
            return '{"' + joined + '"}'
    return "{" + ",".join(["NULL" if item is None else _quoted(item) for item in items]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
