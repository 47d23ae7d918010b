"""Where the programs of the local stores are, and how they run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

FOLDER = (
    Path(__file__).resolve().parent.parent.parent / ".venv" / "stores"
)  # `make` installs requirements-local.txt there
# PostgreSQL's, RabbitMQ's and Erlang's. systemd's, by which a program tells that it is up, is for whoever runs us.
MEANT_FOR_OTHERS = ("PG", "RABBITMQ_", "ERL_", "NOTIFY_SOCKET")


def run(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, inherited: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, in a separate session, so that Ctrl-C does not reach it or its children.

    `environment` is added to that of this process; of its descriptors the command gets those that are `inherited`.
    """
    # The programs would take defaults from these variables (a port, a folder), meant for another server.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(MEANT_FOR_OTHERS)}
    return subprocess.run(  # noqa: S603  programs and options come from this package
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd="/",
        env=ours | {"LC_ALL": "C"} | dict(environment or {}),
        pass_fds=inherited,
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
