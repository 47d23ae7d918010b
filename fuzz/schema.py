"""The same by the schema of the API: schemathesis makes what docs/openapi.yaml allows, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(schema: Path, url: str, token: str, *, cases: int) -> int | None:
    """The exit status of schemathesis; `None` when there is no schema to go by."""
    if not schema.exists():
        return None
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(schema), f"--url={url}", f"--max-examples={cases}"]
    # That nothing is answered with 5xx; whether answers fit the schema is for the tests of the schema to say.
    command += [
        "--checks=not_a_server_error",
        f"--header=Authorization: Bearer {token}",
        "--phases=fuzzing",
        "--no-color",
    ]
    return subprocess.run(command, check=False).returncode
