"""Which page may follow the one that is shown: frames never go back."""

from __future__ import annotations

from typing import Protocol

EPOCHS = 16  # that were left and are remembered; each of them was a restore of the database
READ_TAKES_S = 2.0  # at most: between the look at the log and the age that a page has


class Ordered(Protocol):
    """What a page of any board says of when it is from."""

    @property
    def epoch(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def age_s(self) -> float: ...


class PageOrder:
    """Knows what was shown: the last epoch and seq, and when the epochs before it were left.

    In one epoch the seq decides. Another epoch is another history, and follows whatever its seq: the database was put
    back. A page of an epoch that was left is usually old, of a copy in Redis whose log a process last saw before the
    restore, and is not shown again; it is the truth once more only if the database has said so since.
    """

    def __init__(self) -> None:
        self._shown: Ordered | None = None
        self._left: dict[str, float] = {}  # by epoch: when it was left

    def admits(self, page: Ordered, now: float) -> bool:
        """Whether `page`, read at `now` (monotonic seconds), may be shown. If so it counts as shown from then on."""
        shown = self._shown
        if shown is not None:
            if page.epoch == shown.epoch:
                if page.seq < shown.seq:
                    return False
            elif now - page.age_s < self._left.get(page.epoch, -float("inf")) + READ_TAKES_S:
                return False
            else:
                self._leave(shown.epoch, now)
        self._left.pop(page.epoch, None)
        self._shown = page
        return True

    def _leave(self, epoch: str, now: float) -> None:
        self._left[epoch] = now
        if len(self._left) > EPOCHS:
            del self._left[min(self._left, key=self._left.__getitem__)]
