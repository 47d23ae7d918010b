"""The list of users, and what else is exported, as CSV files for spreadsheets, streamed."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from io import StringIO
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone

from scores.spreadsheet import escape_formula

if TYPE_CHECKING:
    from .standing import ShownScore

CHUNK_ROWS = 2_000  # bounds the memory, and the time that a thread is busy
MEMORY_BYTES = 2**20  # of a file; a longer one goes to the disk
PART_CHARACTERS = 2**16
HEADER = ["user_id", "score", "state", "updated_at"]


def csv_chunks(users: QuerySet[ShownScore]) -> Iterator[str]:
    """The lines of the file of users.

    There is no rank: the rank in a filtered list is not the rank on the board, and without Redis each rank costs a
    count.
    """
    shown = users.values_list("user_id", "score", "blocked", "updated_at")
    return chunked(HEADER, shown, lambda rows: map(_line, rows))


def _line(row: tuple[str, int, bool, datetime]) -> list[Any]:
    user_id, score, blocked, updated_at = row
    state = "blocked" if blocked else "on the board"
    return [escape_formula(user_id), score, state, updated_at.isoformat(timespec="seconds")]


def chunked(
    header: Sequence[str], shown: QuerySet[Any, Any], lines_of: Callable[[Iterator[Any]], Iterator[Sequence[Any]]]
) -> Iterator[str]:
    """The lines of a file, many at a time.

    Of one snapshot, which stays open until the last of them: a cursor that outlives its transaction would be lost
    behind a pooler.
    """
    text = StringIO()
    writer = csv.writer(text)
    text.write("\ufeff")  # without it, Excel does not recognize UTF-8
    writer.writerow(header)
    # Closed here, as in a rebuild: see `Copy`.
    cursor = cast("Generator[Any, None, None]", shown.iterator(chunk_size=CHUNK_ROWS))
    with transaction.atomic(using=shown.db), closing(cursor) as rows:
        lines = lines_of(rows)
        while chunk := list(islice(lines, CHUNK_ROWS)):
            writer.writerows(chunk)
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()  # the header, if there is nobody


async def stream_csv(chunks: Iterator[str]) -> AsyncIterator[str]:
    """The chunks for an event loop. The request's thread, which has the connection, reads each chunk.

    All of them, into a temporary file, before the first is sent: a client that reads for an hour keeps no snapshot
    open. Django would read a synchronous iterator to its end too, but into memory.
    """
    with SpooledTemporaryFile(MEMORY_BYTES, "w+", encoding="utf-8", newline="") as file:
        try:
            while (chunk := await sync_to_async(partial(next, chunks, None))()) is not None:
                await sync_to_async(file.write)(chunk)
        finally:  # also when the client hangs up
            await sync_to_async(chunks.close)()  # type: ignore[attr-defined]  # they are generators
        file.seek(0)
        while part := await sync_to_async(file.read)(PART_CHARACTERS):
            yield part


def csv_response(name: str, chunks: Iterator[str]) -> StreamingHttpResponse:
    """The chunks as a file with this name and the time, which no cache keeps."""
    return StreamingHttpResponse(
        stream_csv(chunks),
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}-{timezone.now():%Y%m%d-%H%M%S}.csv"',
            "Cache-Control": "no-store",
        },
    )
