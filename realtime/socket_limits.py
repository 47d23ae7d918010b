"""How many sockets there may be: of everybody together, and of one address."""

from __future__ import annotations

from collections import Counter

from django.conf import settings


class SocketLimits:
    """Counts the sockets of this process. A place that was taken is given back by `leave`."""

    def __init__(self) -> None:
        self._by_key: Counter[str] = Counter()
        self.taken = 0

    def enter(self, rate_limit_key: str) -> str | None:
        """Take a place, or say in a few words why there is none."""
        if settings.MAX_SOCKETS is not None and self.taken >= settings.MAX_SOCKETS:
            return "too many sockets"
        mine = settings.MAX_SOCKETS_PER_ADDRESS
        if mine is not None and self._by_key[rate_limit_key] >= mine:
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
