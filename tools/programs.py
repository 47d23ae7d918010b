"""Programs that only tests and faults run: on the PATH, or unpacked by `.ci/programs`."""

from __future__ import annotations

import os
import shutil

from .servers import ROOT

UNPACKED = ROOT / ".data" / "tools" / "usr"


def program(name: str) -> str | None:
    """The path of the program; `None` if this machine lacks it. Start it with `environment()`."""
    folders = [UNPACKED / "sbin", UNPACKED / "bin", *os.environ["PATH"].split(os.pathsep), "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(map(str, folders)))


def environment() -> dict[str, str]:
    """The environment of an unpacked program, whose libraries are unpacked as well."""
    libraries = [str(folder) for folder in (UNPACKED / "lib").glob("*-linux-gnu")]
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}
