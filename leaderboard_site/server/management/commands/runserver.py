"""`manage.py runserver` is daphne's, which serves sockets too.

Django imports a command when it runs, but an installed app in every process: as an app, daphne costs each worker
14 MiB, most of it twisted and autobahn.
"""

from __future__ import annotations

from daphne.management.commands.runserver import Command

__all__ = ["Command"]
