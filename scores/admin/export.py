"""The list of users as a file for spreadsheets, written while it is read."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterator
from functools import partial
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db.models import QuerySet

if TYPE_CHECKING:
    from .standing import ShownScore

ROWS = 2_000  # at a time: what is in memory, and how long a thread is taken
HEADER = ["user_id", "score", "state", "updated_at"]
# What a spreadsheet may take for a formula, and run. OWASP, "CSV Injection".
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def neutral(text: str) -> str:
    """`text` as a cell that is a text to every spreadsheet: what would begin a formula comes after an apostrophe."""
    return f"'{text}" if text.startswith(FORMULA) else text


def written(users: QuerySet[ShownScore]) -> Iterator[str]:
    """The lines of the file, many at a time.

    The cursor is PostgreSQL's and outlives its transaction: a client that reads for an hour keeps no snapshot open.
    There is no rank: that of a part is not that of the board, and while Redis is away each would cost a count.
    """
    text = StringIO()
    lines = csv.writer(text)
    text.write("\ufeff")  # or Excel takes UTF-8 for something else
    lines.writerow(HEADER)
    rows = users.values_list("user_id", "score", "blocked", "updated_at").iterator(chunk_size=ROWS)
    while True:
        chunk = list(islice(rows, ROWS))
        lines.writerows(
            (
                neutral(user_id),
                score,
                "blocked" if blocked else "on the board",
                updated_at.isoformat(timespec="seconds"),
            )
            for user_id, score, blocked, updated_at in chunk
        )
        yield text.getvalue()
        if len(chunk) < ROWS:
            return
        text.seek(0)
        text.truncate()


async def streamed(users: QuerySet[ShownScore]) -> AsyncIterator[str]:
    """`written` for an event loop, each part in the thread of the request, which has the connection and so the cursor.

    Django would collect a plain iterator as a whole before it sends the first byte.
    """
    parts = written(users)
    try:
        while (part := await sync_to_async(partial(next, parts, None))()) is not None:
            yield part
    finally:
        await sync_to_async(parts.close)()  # type: ignore[attr-defined]  # a generator, whoever hangs up
