"""Loaded by pytest before Django's settings are: the tests' own PostgreSQL and Redis, whatever the environment says."""

from __future__ import annotations

import os
import signal

from leaderboard_site import embedded

# A shell that starts us in the background has SIGINT ignored, and whatever we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

for name in ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE"):
    os.environ.pop(name, None)  # never somebody's real stores
os.environ["DATA_DIR"] = ".data/test"  # beside those of a `make run` that may be going on
os.environ["LOG_LEVEL"] = "WARNING"
embedded.fill_in()
