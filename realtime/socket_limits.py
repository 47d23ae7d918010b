"""How many sockets a process may have open: in all, and per address."""

from __future__ import annotations

from collections import Counter

from django.conf import settings


class SocketLimits:
    """Counts the sockets of this process, in all and by rate-limit key. `leave` undoes an admitted `enter`."""

    def __init__(self) -> None:
        self._by_key: Counter[str] = Counter()
        self.taken = 0  # may be read in any thread

    def enter(self, rate_limit_key: str) -> str | None:
        """Counts a socket and returns `None`, or returns a short reason why there may be no more."""
        if settings.MAX_SOCKETS is not None and self.taken >= settings.MAX_SOCKETS:
            return "too many sockets"
        limit = settings.MAX_SOCKETS_PER_ADDRESS
        if limit is not None and self._by_key[rate_limit_key] >= limit:
            return "too many sockets from your address"
        self._by_key[rate_limit_key] += 1
        self.taken += 1
        return None

    def leave(self, rate_limit_key: str) -> None:
        self.taken -= 1
        self._by_key[rate_limit_key] -= 1
        if not self._by_key[rate_limit_key]:
            del self._by_key[rate_limit_key]


socket_limits = SocketLimits()
