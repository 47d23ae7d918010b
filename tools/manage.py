"""`manage.py` as an operator uses it: in a process of its own, on the stores that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .servers import ROOT


def manage(env: Mapping[str, str], *words: str) -> None:
    """Run a command, with `env` beside the environment of this process. Raises `CalledProcessError`."""
    command = [sys.executable, "manage.py", *words]
    subprocess.run(command, cwd=ROOT, env=os.environ | env, check=True, stdout=subprocess.DEVNULL)


def make_tables(env: Mapping[str, str]) -> None:
    manage(env, "migrate", "--noinput", "-v0")


def apply_boards(env: Mapping[str, str], folder: Path, boards: str) -> None:
    """Make boards as `boards` has them, in TOML, by a file in `folder`."""
    file = folder / "boards.toml"
    file.write_text(boards)
    manage(env, "boards", "apply", str(file))
