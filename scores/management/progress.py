"""The progress of a long command: a bar on a terminal, a line every 5 s elsewhere. On stderr: stdout is for results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.core.management.base import OutputWrapper
from rich import progress
from rich.console import Console

LINE_INTERVAL_S = 5.0


@contextmanager
def reporter(task: str, stream: OutputWrapper) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that reports the progress of `task` to `stream`: call it with done and total."""
    if stream.isatty():
        with _bar() as bar:
            task_id = bar.add_task(task, total=None)
            yield lambda done, total: bar.update(task_id, completed=done, total=total)
        return
    stream.write(f"{task} …")
    reported_at = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at >= LINE_INTERVAL_S:
            reported_at = time.monotonic()
            stream.write(f"{task} … {done} of {total}")
            stream.flush()

    yield report


def _bar() -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        # The terminal itself: the command's own stream ends every write with a newline.
        console=Console(stderr=True),
    )
