"""Whether there is a browser at all. Without one, this is the only test of the folder that is collected."""

from __future__ import annotations

import os

import pytest

from .conftest import NAMES, program


@pytest.mark.skipif(
    program() is None and not os.environ.get("REQUIRE_BROWSER"),
    reason=f"the tests of the page need a Chromium: {', '.join(NAMES)} on the PATH, or CHROMIUM",
)
def test_a_browser_is_there_to_test_the_page_with() -> None:
    assert program()
