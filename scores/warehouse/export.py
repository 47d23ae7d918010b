"""The export: writes what a folder lacks of the log, in portions, each of one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

from scores.log.head import Head, Log, continues

from .events import EventReader, EventWriter, Run, last_mark
from .folder import HASHED, IDS, Folder, Refusal, Stretch, missing
from .pseudonyms import Pseudonyms

# Events of a snapshot, and at most so many in a file. A snapshot of two seconds holds up no vacuum.
PORTION = 500_000


class Exported(NamedTuple):
    """What was written, and where the folder ends now."""

    epoch: str
    files: int
    events: int
    last: int
    holes: list[Stretch]  # between files, which were written again
    lost: list[Stretch]  # what is missing all the same: the log does not have it any more


def export(
    log: Log, folder: Folder, pseudonyms: Pseudonyms | None, report: Callable[[int, int], None] = lambda *_: None
) -> Exported:
    """Write the events that `folder` lacks up to the end of the log at the start; with user ids if there are no pseudonyms.

    Raises `Refusal`; errors of the database; `OSError` if the folder cannot be written to. Every file that is whole by then
    stays, and the next export continues after it.
    """
    users, key = (HASHED, pseudonyms.fingerprint) if pseudonyms else (IDS, "")
    with folder.locked():
        manifest = folder.manifest(users, key)
        folder.remove_partial_files()
        head = _head(log, folder)
        epoch = epoch_of(head)
        if not manifest.epoch:
            folder.remember(manifest := replace(manifest, epoch=epoch))
        reader = EventReader(log, pseudonyms)
        first = reader.first()
        files = folder.files(epoch)
        stretches = missing(files, first=first, last=head.seq)
        done, total, written = 0, sum(stretch.events for stretch in stretches), 0
        for portion in (portion for stretch in stretches for portion in _portions(stretch)):
            with log.snapshot() as now:
                if epoch_of(now) != epoch:
                    raise Refusal("The database was put back meanwhile. Export again: a new epoch has begun.")
                with closing(reader.runs(epoch, portion)) as runs:
                    written += _write(folder, epoch, runs)
            done += portion.events
            report(done, total)
        after = folder.files(epoch)
        # Only now: who reads the epoch that the folder names never sees half of a new one.
        if manifest.epoch != epoch:
            folder.remember(replace(manifest, epoch=epoch))
        lost = missing(after, first=first, last=head.seq)
        return Exported(
            epoch,
            files=written,
            events=total - sum(stretch.events for stretch in lost),
            last=after[-1].stretch.last if after else 0,
            holes=[s for s in stretches if files and s.first < files[-1].stretch.first and s not in lost],
            lost=lost,
        )


def epoch_of(head: Head) -> str:
    """The epoch of a log, as files have it: the first part of its origin.

    Not the whole origin, which also changes when a standby takes over that has every event. If it lacks some, the newest
    file has an event that the log has not: see `_head`.
    """
    return head.origin.partition("-")[0]


def _head(log: Log, folder: Folder) -> Head:
    """The end of the log, in an epoch whose files, if there are any, are of this very log.

    The files remember the log as a process does, and for longer: if their newest event is not the log's, the database was
    put back and nobody else noticed. Whoever finds that out begins a new epoch (docs/adr/0024).
    """
    head = log.head()
    files = folder.files(epoch_of(head))
    if not files:
        return head
    newest = files[-1]
    seen = Head(head.origin, newest.stretch.last, 0, last_mark(newest.path))
    if continues(seen, head, log.mark_of(seen.seq)):
        return head
    log.begin_epoch(head.origin)
    return log.head()


def _portions(stretch: Stretch) -> Iterator[Stretch]:
    for first in range(stretch.first, stretch.last + 1, PORTION):
        yield Stretch(first, min(first + PORTION - 1, stretch.last))


def _write(folder: Folder, epoch: str, runs: Iterator[Run]) -> int:
    """Write runs into files, and return how many: one, and one more where the day changes or an event is not there."""
    files = 0
    run = next(runs, None)
    while run is not None:
        run = _write_file(folder, epoch, run, runs)
        files += 1
    return files


def _write_file(folder: Folder, epoch: str, run: Run, runs: Iterator[Run]) -> Run | None:
    """Write `run` and those of `runs` that continue it into a file; return the one that does not."""
    following: Run | None = run
    with folder.writing(run.day, epoch, run.stretch.first) as file:
        with EventWriter(file.sink, run) as writer:
            while following is not None and (following is run or following.continues(run)):
                run = following
                writer.write(run)
                following = next(runs, None)
        file.keep(run.stretch.last)
    return following
