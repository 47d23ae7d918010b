"""`make bench` works. How fast anything is, is no business of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.servers import ROOT

pytestmark = pytest.mark.slow


def test_a_small_one_measures_and_leaves_the_document_alone(tmp_path: Path) -> None:
    document = ROOT / "docs" / "performance.md"
    before = document.read_text()
    command = [sys.executable, "-m", "tools.bench", "--small", "--only", "reads,fanout,slow,walls,batch,export"]
    command += ["--json", str(tmp_path / "figures.json")]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert {row["scenario"] for row in rows} == {"reads", "fanout", "slow", "walls", "batch", "export"}
    assert [f for row in rows for f in row["figures"] if f["value"] < 0] == []
    assert document.read_text() == before


def test_what_does_not_exist_is_not_measured() -> None:
    command = [sys.executable, "-m", "tools.bench", "--only", "moonshine"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "there is no moonshine" in ended.stderr
