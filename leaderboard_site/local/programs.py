"""Where the programs of the local stores are, and how they are run."""

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
    """Run to the end, in a session of its own so that Ctrl-C at the terminal leaves it and its children alone."""
    # PostgreSQL's programs and library take defaults from PG* (a port, a folder) that were meant for some other server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    return subprocess.run(  # noqa: S603  the callers' own programs and options
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
    """Whether `answers` comes true in time."""
    until = time.monotonic() + seconds
    while not (true := answers()) and time.monotonic() < until:
        time.sleep(0.02)
    return true


def end_of(log: Path, *, lines: int = 12) -> str:
    """The end of a log, to be shown when its writer did not start."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"({log}: {error.strerror})"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
