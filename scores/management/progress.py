"""How far a long command is: a bar on a terminal, now and then a line elsewhere. On stderr: stdout is for results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.core.management.base import OutputWrapper
from rich import progress
from rich.console import Console

LINE_EVERY_S = 5.0


@contextmanager
def reported(doing: str, stream: OutputWrapper) -> Iterator[Callable[[int, int], None]]:
    """Tell `stream` how far it is with `doing`; the block calls what it gets with done and total."""
    if stream.isatty():
        with _bar() as bar:
            task = bar.add_task(doing, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    stream.write(f"{doing} …")
    told_at = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= LINE_EVERY_S:
            told_at = time.monotonic()
            stream.write(f"{doing} … {done} of {total}")
            stream.flush()

    yield tell


def _bar() -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        # The terminal itself: a command's own stream ends every write with a new line.
        console=Console(stderr=True),
    )
