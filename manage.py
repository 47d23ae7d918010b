#!/usr/bin/env python
"""Django's command line. Without DATABASE_URL and REDIS_URL it runs on local stores, which it starts and stops."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from leaderboard_site import local


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard_site.settings")
    try:
        local.fill_in()
    except local.StoreError as error:
        sys.exit(str(error))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
