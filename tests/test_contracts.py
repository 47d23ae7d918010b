"""The contracts on imports hold something: code that breaks one is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.servers import ROOT

PACKAGES = ("leaderboard_site", "realtime", "scores", "tests", "tools")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The code without its data, which a test may change."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=lambda folder, names: {"__pycache__", "node_modules"}
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def linted(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


def test_the_log_may_not_know_its_copy(tree: Path) -> None:
    with (tree / "scores" / "log" / "head.py").open("a") as module:
        module.write("\nfrom scores.projection import leaderboard\n")

    found = linted(tree)

    assert found.returncode == 1
    assert "Inside scores BROKEN" in found.stdout
    assert "Contracts: 7 kept, 1 broken" in found.stdout
