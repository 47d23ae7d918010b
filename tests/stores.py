"""Loaded by pytest before Django's settings are: the tests' own PostgreSQL and Redis, whatever the environment says; and which server."""

from __future__ import annotations

import os
import signal

import pytest

from leaderboard_site import local
from tools.servers import CHOSEN, SERVERS

# A shell that starts us in the background has SIGINT ignored, and whatever we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.pop("PYTHONDEVMODE", None)  # is on here by now, and not meant for the servers that tests start
for name in ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "BROKER"):
    for variable in (name, f"{name}_FILE"):
        os.environ.pop(variable, None)  # never somebody's real stores
# Beside those of a `make run` that may be going on; and each of the processes that share the tests has its own.
os.environ["DATA_DIR"] = f".data/test{os.environ.get('PYTEST_XDIST_WORKER', '').removeprefix('gw')}"
os.environ["LOG_LEVEL"] = "WARNING"
# A server of the tests and the tests take turns; on a CPU that it may not leave it would wait behind the others.
os.environ["CPU_AFFINITY"] = "off"
# A second process for each of many servers, which takes a second of a CPU to start. Tests of followers switch it on.
os.environ["FOLLOW"] = "off"
# No test cuts the power, and only then does it matter what the disk has: after a kill -9 all is in the system's memory.
# A commit is still answered after it was written (`synchronous_commit`), which those tests look for. A power cut during
# the tests may leave .data/test* unusable; it can be deleted at any time.
local.fill_in(postgresql={"fsync": "off", "full_page_writes": "off"})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server", default="uvicorn", choices=list(SERVERS), help="what serves the application in the tests"
    )


def pytest_configure(config: pytest.Config) -> None:
    os.environ[CHOSEN] = config.getoption("--server")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--server") == "daphne":
        for item in items:
            if marker := item.get_closest_marker("uvicorn"):
                item.add_marker(pytest.mark.skip(reason=f"daphne: {marker.args[0]}"))
