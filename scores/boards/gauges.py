"""What metrics say of each board: its position in each store, and how far that is behind the log."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from scores import metrics

TELL_EVERY_S = 1.0  # thousands of series at most, with a microsecond or two for each


class Gauges:
    """The gauges of all boards, told by whoever follows the log.

    A series whose board has left a store, or which another process tells from now on, becomes NaN: the exposition leaves
    it out, and of several processes it takes the value that was set last.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[float, float]] = {}  # by board and store: position, lag
        self._told_at = -math.inf

    def tell(self, names: Mapping[int, str], head: int, stores: Mapping[str, Mapping[int, int]]) -> None:
        """`stores` have the positions of their boards; at most once a second, since nobody asks more often."""
        now = time.monotonic()
        if now - self._told_at < TELL_EVERY_S:
            return
        self._told_at = now
        self._set(
            {
                (names[board], store): (seq, max(head - seq, 0))
                for store, positions in stores.items()
                for board, seq in positions.items()
                if board in names
            }
        )

    def blank(self) -> None:
        """Leave it to another process to tell."""
        self._told_at = -math.inf
        self._set({})

    def _set(self, positions: dict[tuple[str, str], tuple[float, float]]) -> None:
        gone = dict.fromkeys(self._told.keys() - positions.keys(), (math.nan, math.nan))
        for labels, (seq, lag) in (positions | gone).items():
            if self._told.get(labels) != (seq, lag):
                metrics.board_seq.labels(*labels).set(seq)
                metrics.board_lag.labels(*labels).set(lag)
        self._told = positions
