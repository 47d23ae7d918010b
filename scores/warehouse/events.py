"""Events of the log as columns: read from PostgreSQL many at a time, with pseudonyms in the place of names."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from scores.log.head import Log

from .folder import Refusal, Stretch
from .pseudonyms import Pseudonyms

CHUNK = 100_000  # events that are in memory at once, and a row group of a file: some 30 MB
# Few different values each, so that a name is read, hashed and written once per chunk.
NAME = pa.dictionary(pa.int32(), pa.string())
# As in the table, so that a query for one is a query for the other. Not the idempotency key, which is the client's, and
# not the reason, which is free text about a person.
COLUMNS = {
    "seq": pa.int64(),
    "user_id": NAME,
    "kind": NAME,
    "points": pa.int64(),
    "total": pa.int64(),
    "action": NAME,
    "stream": NAME,
    "voids": pa.int64(),
    "hidden": pa.bool_(),
    "actor": NAME,
    "created_at": pa.timestamp("us", tz="UTC"),
}
# JSON of the client's choice, which may name persons: in files that name them anyway.
WITH_IDS = {"metadata": pa.string()}
PERSONS = ("user_id", "actor")
REMEMBERED = 250_000  # names with their hashes: 25 MB
# A time that somebody made infinite is that of its mark: see `MARK_SQL`.
SELECTED = {"created_at": "CASE WHEN isfinite(created_at) THEN created_at ELSE to_timestamp(0.000001) END"}
# A chunk is one value. psycopg takes 4 µs for a row, of a COPY too; like this, the server takes 2 µs for all there is to do.
# The text of a record is almost CSV: its parentheses become two columns more, which are not read. The outer rows stream, so
# the server works on a chunk while this process works on the one before.
LINES_SQL = """
    SELECT lines FROM generate_series(%(first)s::bigint, %(last)s::bigint, %(chunk)s::bigint) AS chunk (first), LATERAL (
        SELECT convert_to(string_agg(ROW(NULL, {columns}, NULL)::text, E'\\n' ORDER BY seq), 'UTF8') AS lines
        FROM score_events
        WHERE seq >= chunk.first AND seq < chunk.first + %(chunk)s::bigint AND seq <= %(last)s::bigint
    ) AS portion WHERE lines IS NOT NULL
"""
FIRST_SQL = "SELECT coalesce(min(seq), 1) FROM score_events"


class Run(NamedTuple):
    """Events of one day, one after the other."""

    day: date
    stretch: Stretch
    table: Any

    def continues(self, before: Run) -> bool:
        """Whether both may be in one file."""
        return self.day == before.day and self.stretch.first == before.stretch.last + 1


class EventReader:
    """Reads a log as the files have it. Call it within a snapshot of the log."""

    def __init__(self, log: Log, pseudonyms: Pseudonyms | None) -> None:
        self._log = log
        # Of each column its own: actors are few, and to look for one among all players takes as long as for all of them.
        self._hashes = {name: Hashes(pseudonyms) for name in PERSONS} if pseudonyms else {}
        columns = COLUMNS if pseudonyms else COLUMNS | WITH_IDS
        self._sql = LINES_SQL.format(columns=", ".join(SELECTED.get(name, name) for name in columns))
        self._names = ["(", *columns, ")"]
        self._parse = pyarrow.csv.ParseOptions(escape_char="\\", newlines_in_values=True)
        self._convert = pyarrow.csv.ConvertOptions(
            column_types=columns,
            include_columns=list(columns),
            # NULL has no characters, and an empty text has two quotes.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        )

    def first(self) -> int:
        """The oldest event that the log has: old ones may have been archived."""
        with self._log.connection.cursor() as cursor:
            cursor.execute(FIRST_SQL)
            (seq,) = cursor.fetchone()
            return int(seq)

    def runs(self, epoch: str, stretch: Stretch) -> Generator[Run, None, None]:
        """The events of a stretch in order, in parts of at most a chunk. Events that the log does not have are left out."""
        connection = self._log.connection
        connection.ensure_connection()
        # Django's cursor has no stream.
        cursor = psycopg.Cursor(connection.connection)
        parameters = {"first": stretch.first, "last": stretch.last, "chunk": CHUNK}
        rows = cast("Generator[Any, None, None]", cursor.stream(self._sql, parameters, binary=True))
        with connection.wrap_database_errors, closing(rows):  # one that is left early cancels its statement
            for (lines,) in rows:
                yield from _runs(self._table(epoch, lines))

    def _table(self, epoch: str, lines: bytes) -> Any:
        # One block, so that each column is one array with one dictionary.
        read = pyarrow.csv.ReadOptions(column_names=self._names, block_size=len(lines) + 1)
        table = pyarrow.csv.read_csv(
            pa.BufferReader(lines), read_options=read, parse_options=self._parse, convert_options=self._convert
        )
        for name, hashes in self._hashes.items():
            names = table.column(name).chunk(0)
            column = pa.DictionaryArray.from_arrays(names.indices, hashes.of(names.dictionary))
            table = table.set_column(table.schema.get_field_index(name), name, column)
        return table.add_column(0, "epoch", pa.repeat(pa.scalar(epoch), table.num_rows).dictionary_encode())


class Hashes:
    """The pseudonyms of many names at once. Players come again, so it remembers the newest.

    In arrays: to look names up in a dict, most of which is in no cache of the CPU, takes as long as to hash them.
    """

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._names = self._hashed = pa.array([], pa.string())

    def of(self, names: Any) -> Any:
        """The pseudonyms of different names, in their order."""
        places = pc.index_in(names, value_set=self._names)
        is_new = places.is_null()
        new = names.filter(is_new)
        hashed_now = pa.array([self._pseudonyms.of(name) for name in new.to_pylist()], pa.string())
        hashed = pc.replace_with_mask(self._hashed.take(places), is_new, hashed_now)
        if len(self._names) + len(new) <= REMEMBERED:
            self._names = pa.concat_arrays([self._names, new])
            self._hashed = pa.concat_arrays([self._hashed, hashed_now])
        else:
            self._names, self._hashed = names, hashed
        return hashed


class EventWriter:
    """Writes runs of one day into a file, each as a row group."""

    def __init__(self, sink: BinaryIO, run: Run) -> None:
        schema = run.table.schema
        self._writer = pq.ParquetWriter(
            sink,
            schema,
            compression="zstd",
            # Not of numbers, nearly all of which are different: a quarter of the time to write a file.
            use_dictionary=[field.name for field in schema if pa.types.is_dictionary(field.type)],
            # To every reader a name is a text, and no dictionary of Arrow's.
            store_schema=False,
        )

    def write(self, run: Run) -> None:
        self._writer.write_table(run.table)

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *error: object) -> None:
        """Write what comes at the end of the file."""
        self._writer.close()


def last_mark(path: Path) -> int:
    """The mark of the last event of a file. Raises `Refusal` if it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            column = file.read_row_group(file.num_row_groups - 1, columns=["created_at"]).column(0)
    except (pa.ArrowException, OSError) as error:
        raise Refusal(f"{path} cannot be read ({error}). Delete it, and the next export writes it again.") from error
    return int(column.cast(pa.int64())[-1].as_py())


def _runs(table: Any) -> Iterator[Run]:
    """The parts of a table that are of one day and have no event missing in between: nearly always all of it."""
    seqs, days = table.column("seq").chunk(0), table.column("created_at").chunk(0).cast(pa.date32())
    first, last = seqs[0].as_py(), seqs[-1].as_py()
    if last - first + 1 == len(seqs) and pc.min_max(days)["min"] == pc.min_max(days)["max"]:
        yield Run(days[0].as_py(), Stretch(first, last), table)
        return
    is_new = pc.or_(pc.not_equal(pc.pairwise_diff(seqs), 1), pc.not_equal(pc.pairwise_diff(days.cast(pa.int32())), 0))
    starts = [0, *pc.indices_nonzero(is_new.fill_null(False)).to_pylist()]
    for start, end in zip(starts, [*starts[1:], len(seqs)], strict=True):
        stretch = Stretch(seqs[start].as_py(), seqs[end - 1].as_py())
        yield Run(days[start].as_py(), stretch, table.slice(start, end - start))
