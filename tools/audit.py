"""Ask pip-audit for known vulnerabilities in the locks. One that is known is an error; that nobody answers is a line of text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = ("requirements.txt", "requirements-dev.txt")
ANSWER_S = 120  # for each lock; a gate must not hang on somebody else's service


def main() -> int:
    known = 0
    for lock in LOCKS:
        answered = ask(Path(__file__).parent.parent / lock)
        packages: list[dict[str, Any]] = answered or []
        checked = [package for package in packages if "vulns" in package]
        if not checked:
            say(
                f"{lock}: the advisories could not be read, so nothing is known about its {len(packages) or 'packages'}."
            )
            continue
        if len(checked) < len(packages):
            say(f"{lock}: {len(packages) - len(checked)} of {len(packages)} packages are not known to the advisories.")
        for package in checked:
            for vulnerability in package["vulns"]:
                known += 1
                mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
                say(f"{lock}: {package['name']} {package['version']} has {vulnerability['id']}, mended in {mended}.")
    return 1 if known else 0


def ask(lock: Path) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package; `None` when it says nothing."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps", "--disable-pip"]
    command += ["--format=json", "--progress-spinner=off", "--timeout=5"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
        return list(json.loads(ended.stdout)["dependencies"])
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None


def say(line: str) -> None:
    print(line)  # noqa: T201  a command


if __name__ == "__main__":
    sys.exit(main())
