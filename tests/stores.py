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
for name in ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE"):
    os.environ.pop(name, None)  # never somebody's real stores
# Beside those of a `make run` that may be going on; and each of the processes that share the tests has its own.
os.environ["DATA_DIR"] = f".data/test{os.environ.get('PYTEST_XDIST_WORKER', '').removeprefix('gw')}"
os.environ["LOG_LEVEL"] = "WARNING"
local.fill_in()


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
