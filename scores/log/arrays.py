"""PostgreSQL's arrays, as the text that it reads.

psycopg looks a dumper up for every item, one to four microseconds of Python each. A batch has fifteen arrays, whose items
the writer dumps while it holds the lock on the log's head.
"""

from __future__ import annotations

from collections.abc import Iterable


def numbers(items: Iterable[int | None]) -> str:
    return _array(["NULL" if item is None else str(item) for item in items])


def booleans(items: Iterable[bool | None]) -> str:
    return _array(["NULL" if item is None else "t" if item else "f" for item in items])


def texts(items: Iterable[str | None]) -> str:
    """Each text is in quotes: it may be empty, or the word NULL, or have any character of the syntax."""
    return _array(["NULL" if item is None else _quoted(item) for item in items])


def _array(items: Iterable[str]) -> str:
    return "{" + ",".join(items) + "}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
