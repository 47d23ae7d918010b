"""The same by the schema of the API: schemathesis makes what docs/openapi.yaml allows, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from math import ceil
from pathlib import Path

import yaml

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def run(schema: Path, url: str, token: str, *, cases: int, seed: int) -> int | None:
    """The exit status of schemathesis after at least `cases` requests; `None` when there is no schema to go by."""
    if not schema.exists():
        return None
    each = ceil(cases / max(1, operations(schema)))
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(schema), f"--url={url}", f"--max-examples={each}"]
    # That nothing is answered with a 5xx; whether answers fit the schema is for the tests of the schema to say.
    command += ["--checks=not_a_server_error", "--phases=fuzzing", f"--header=Authorization: Bearer {token}"]
    command += [f"--seed={seed}", "--no-color"]
    return subprocess.run(command, check=False).returncode


def operations(schema: Path) -> int:
    """How many there are that can be asked in more than one way; the others are asked once, whatever the number."""
    paths = yaml.safe_load(schema.read_text()).get("paths", {})
    every = [operation for methods in paths.values() for name, operation in methods.items() if name in METHODS]
    return sum("parameters" in operation or "requestBody" in operation for operation in every)
