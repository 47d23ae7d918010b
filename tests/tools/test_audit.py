"""What `python -m tools.audit` makes of pip-audit's answers; here another program of that name gives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.servers import ROOT

Audit = Callable[[Any], subprocess.CompletedProcess[str]]

# As in pip-audit's README, "Exit codes" and "--format=json".
SOUND = {"name": "django", "version": "5.2.19", "vulns": []}
UNKNOWN = {"name": "leaderboard", "skip_reason": "not found on PyPI"}
VULNERABLE = {
    "name": "flask",
    "version": "0.5",
    "vulns": [
        {"id": "PYSEC-2019-179", "fix_versions": ["1.0"], "aliases": ["CVE-2019-1010083"], "description": "…"},
        {"id": "PYSEC-2018-66", "fix_versions": [], "aliases": ["CVE-2018-1000656"], "description": "…"},
    ],
}


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Runs the audit, which is told `answer` of each lock."""

    def run(answer: Any) -> subprocess.CompletedProcess[str]:
        text = answer if isinstance(answer, str) else json.dumps({"dependencies": answer, "fixes": []})
        (tmp_path / "pip_audit.py").write_text(f"print({text!r})")
        env = os.environ | {"PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-m", "tools.audit"]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_a_known_vulnerability_fails_and_says_what_mends_it(audit: Audit) -> None:
    ended = audit([SOUND, VULNERABLE])

    assert ended.returncode == 1
    assert ended.stdout.splitlines()[:2] == [
        "requirements.txt: flask 0.5 has PYSEC-2019-179, mended in 1.0.",
        "requirements.txt: flask 0.5 has PYSEC-2018-66, mended in no version yet.",
    ]
    assert "requirements-dev.txt: flask 0.5 has" in ended.stdout


def test_where_nothing_is_known_against_them_it_is_quiet(audit: Audit) -> None:
    ended = audit([SOUND])

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_packages_that_nobody_knows_are_told(audit: Audit) -> None:
    ended = audit([SOUND, UNKNOWN])

    assert ended.returncode == 0
    assert "requirements.txt: 1 of 2 packages are not known to the advisories." in ended.stdout


@pytest.mark.parametrize("answer", ["", "no network", "[]", [], [UNKNOWN]])
def test_silence_is_not_taken_for_good_news(answer: Any, audit: Audit) -> None:
    ended = audit(answer)

    assert ended.returncode == 0
    assert "requirements.txt: the advisories could not be read, so nothing is known" in ended.stdout
