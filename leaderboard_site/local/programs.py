"""Where the programs of the local stores are, and how they run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER = (
    Path(__file__).resolve().parent.parent.parent / ".venv" / "stores"
)  # `make` installs requirements-local.txt there


def run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, in a separate session, so that Ctrl-C does not reach it or its children."""
    # PostgreSQL's programs and library would take defaults from PG* (a port, a folder), meant for another server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    return subprocess.run(  # noqa: S603  programs and options come from this package
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd="/",
        env=environment,
        start_new_session=True,
        check=False,
    )


def wait_for(answers: Callable[[], bool], seconds: float) -> bool:
    """Whether `answers` becomes true in time."""
    until = time.monotonic() + seconds
    while not (answered := answers()) and time.monotonic() < until:
        time.sleep(0.02)
    return answered


def end_of(log: Path, *, lines: int = 12) -> str:
    """The last lines of the log of a program that did not start."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"({log}: {error.strerror})"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
