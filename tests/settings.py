"""The settings of the tests and of the servers that they start: the service's own, for a machine that is busy with something else."""

from __future__ import annotations

from leaderboard_site.settings import *  # noqa: F403  the documented way to have somebody's settings but for a few
from leaderboard_site.settings import CACHES

MORE_PATIENT = 5  # times; a tenth of a second is not much there
for cache in CACHES.values():
    for name in ("SOCKET_TIMEOUT", "SOCKET_CONNECT_TIMEOUT"):
        cache["OPTIONS"][name] *= MORE_PATIENT

# Honest hashing takes half a second of a CPU, and an answer that takes four times as long is a 503.
PASSWORD_HASHERS = ["tests.hashers.QuickHasher"]
