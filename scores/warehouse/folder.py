"""The folder of an export: which files it has, whether they fit together, and how one more becomes part of it.

_export.json                    how users are named in these files, and the epoch that is whole
day=2026-11-26/
    events-db7a56ee-000000000001-000000041872.parquet
    .events-db7a56ee-000000041873.parquet.partial      being written; nobody takes it for a file
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

NAME = re.compile(r"events-([0-9a-f]{8})-(\d{12,})-(\d{12,})\.parquet")
FILES = "day=*/events-*.parquet"
PARTIAL_FILES = "day=*/.events-*.partial"
HASHED, IDS = "hashed", "ids"


class Refusal(Exception):  # noqa: N818  names what happened
    """The export does nothing, or no more, and says why in a sentence for whoever runs it."""


class Stretch(NamedTuple):
    """Events one after the other."""

    first: int
    last: int

    @property
    def events(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"event {self.first}" if self.first == self.last else f"events {self.first} to {self.last}"


class File(NamedTuple):
    """A whole file: its events are one after the other, of one epoch and one day."""

    path: Path
    epoch: str
    stretch: Stretch


@dataclass(frozen=True)
class Manifest:
    """What the folder remembers. A change would split each user in two, so it is refused."""

    users: str  # HASHED or IDS
    key: str = ""  # fingerprint of the key that users are hashed by
    epoch: str = ""  # the newest that was exported to its end


class Folder:
    """One service's export, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = path / "_export.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if it is missing, and keep other exports out. Raises `Refusal` if one is at work.

        The kernel releases the lock of a process that dies, however it does. The lock is no file that is ever renamed:
        two processes could then lock two files.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".export.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refusal(f"Another export to {self.path} is at work.") from None
            yield

    def remove_partial_files(self) -> None:
        """Remove what runs that were killed left behind. Only under the lock, or it would be another's work."""
        for path in self.path.glob(PARTIAL_FILES):
            path.unlink()

    # How users are named

    def manifest(self, users: str, key: str) -> Manifest:
        """What the folder remembers, which this begins. Raises `Refusal` if its files name users in another way."""
        if not self._manifest.exists():
            if any(self.path.glob(FILES)):
                raise Refusal(
                    f"{self.path} has files of events but no {self._manifest.name}, which says how they name users."
                )
            self.remember(Manifest(users, key))
        try:
            fields: Any = json.loads(self._manifest.read_text())
            found = Manifest(fields["users"], fields["key"], fields["epoch"])
        except (ValueError, TypeError, KeyError) as error:
            raise Refusal(f"{self._manifest} is not what an export wrote: {error!r}") from error
        if found.users != users:
            how, mend = ("with --ids", "Use it again") if found.users == IDS else ("without --ids", "Leave it out")
            raise Refusal(f"The files in {self.path} were written {how}. {mend}, or export to another folder.")
        if found.key != key:
            raise Refusal(
                f"The users in {self.path} were hashed by another key, and each would be two. Set EXPORT_KEY to what it was "
                "(without it, the key follows from SECRET_KEY), or export to another folder."
            )
        return found

    def remember(self, manifest: Manifest) -> None:
        text = json.dumps({"users": manifest.users, "key": manifest.key, "epoch": manifest.epoch}) + "\n"
        partial = self._manifest.with_name(f".{self._manifest.name}.partial")
        with partial.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(self._manifest)
        _sync_folder(self.path)

    # Files of events

    def files(self, epoch: str) -> list[File]:
        """The whole files of an epoch, in the order of their events. Raises `Refusal` if two have the same event."""
        found = []
        for path in self.path.glob(FILES):
            if (match := NAME.fullmatch(path.name)) and match[1] == epoch:
                found.append(File(path, epoch, Stretch(int(match[2]), int(match[3]))))
        found.sort(key=lambda file: file.stretch)
        for before, after in pairwise(found):
            if after.stretch.first <= before.stretch.last:
                raise Refusal(f"{before.path} and {after.path} have the same events. Remove one of them.")
        return found

    @contextmanager
    def writing(self, day: date, epoch: str, first: int) -> Iterator[Writing]:
        """A file for events of a day from `first` on, which is part of the export once it was kept, and not before.

        The name is there when the bytes are on the disk, and both survive a power cut. What is not kept is removed.
        """
        folder = self.path / f"day={day.isoformat()}"
        if not folder.is_dir():
            folder.mkdir()
            _sync_folder(self.path)
        partial = folder / f".events-{epoch}-{first:012}.parquet.partial"
        try:
            with partial.open("xb") as sink:
                yield Writing(sink, partial, epoch, first)
        finally:
            partial.unlink(missing_ok=True)


class Writing(NamedTuple):
    """A file that is not whole yet."""

    sink: BinaryIO
    partial: Path
    epoch: str
    first: int

    def keep(self, last: int) -> None:
        """Make a whole file of it, which ends with event `last`."""
        self.sink.flush()
        os.fsync(self.sink.fileno())
        self.partial.rename(self.partial.with_name(f"events-{self.epoch}-{self.first:012}-{last:012}.parquet"))
        _sync_folder(self.partial.parent)


def missing(files: Sequence[File], *, first: int, last: int) -> list[Stretch]:
    """The events up to `last` that no file has: after the last file, and in holes between files.

    A hole is a file that somebody deleted, and to write it again is what continuing means: every file follows from its
    name and the log. But before the first file nothing is missing. Who keeps two years and moves older days away would
    otherwise get them back with each run. `first` is where to begin without any file.
    """
    after = files[0].stretch.first if files else first
    found = []
    for file in files:
        if file.stretch.first > after:
            found.append(Stretch(after, file.stretch.first - 1))
        after = file.stretch.last + 1
    if after <= last:
        found.append(Stretch(after, last))
    return found


def _sync_folder(path: Path) -> None:
    """Make the names in a folder as durable as what they name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
