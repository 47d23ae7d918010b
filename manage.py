#!/usr/bin/env python
"""Django's command line. Without DATABASE_URL and REDIS_URL it runs on local stores, which it starts and stops."""

from __future__ import annotations

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import OperationalError

from leaderboard_site import local


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard_site.settings")
    try:
        local.fill_in()
    except (local.StoreError, ImproperlyConfigured) as error:
        sys.exit(str(error))
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(str(error))
    except OperationalError as error:
        # Only those without an SQLSTATE are of the connection: others are of a statement, and need their traceback.
        if getattr(error.__cause__, "sqlstate", None) is not None or "--traceback" in sys.argv:
            raise
        sys.exit(f"PostgreSQL, as DATABASE_URL names it, does not answer: {error}".rstrip())


if __name__ == "__main__":
    main()
