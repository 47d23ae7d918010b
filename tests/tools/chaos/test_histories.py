"""The long form of the random histories begins, ends and says what it compared. Short ones are in tests/scores/boards."""

from __future__ import annotations

import re
import subprocess
import sys

from tools.servers import ROOT


def test_histories_follow_one_another() -> None:
    command = [sys.executable, "-m", "tools.chaos.boards", "--seconds", "1", "--steps", "20"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    found = re.search(r"(\d+) histories with [\d,]+ events; ([\d,]+) periods compared whole, none differs", ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert found is not None, ran.stdout
    assert int(found[1]) > 0
    assert int(found[2].replace(",", "")) > 0
