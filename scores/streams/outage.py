"""What is said while a store is away: once that it does not answer, and once that it does again."""

from __future__ import annotations

import logging

from prometheus_client import Gauge

logger = logging.getLogger(__name__)


class Outage:
    """Of one store, as one part of the service sees it. `gauge` is 1 meanwhile."""

    def __init__(self, store: str, gauge: Gauge | None = None) -> None:
        self._store = store
        self._gauge = gauge
        self._is_told = False

    def goes_on(self, failure: object) -> None:
        if not self._is_told:
            logger.warning("Waits for %s: %s", self._store, " ".join(str(failure).split()))
            self._tell(True)

    def ended(self) -> None:
        """Cheap: whoever gets an answer says so each time."""
        if self._is_told:
            logger.info("%s answers again", self._store)
            self._tell(False)

    def _tell(self, is_away: bool) -> None:
        self._is_told = is_away
        if self._gauge is not None:
            self._gauge.set(is_away)
