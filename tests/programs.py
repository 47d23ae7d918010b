"""The mark of tests that need a program which not every machine has."""

from __future__ import annotations

import os

import pytest

from tools.programs import program


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test with one line where there is no such program, and lets it fail where REQUIRE_PROGRAMS is set."""
    is_missing = program(name) is None and not os.environ.get("REQUIRE_PROGRAMS")
    return pytest.mark.skipif(is_missing, reason=f"there is no {name} on the PATH: .ci/programs brings it")
