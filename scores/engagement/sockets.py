"""How many sockets were open: a sample a minute of what the processes tell of themselves, and the most of each hour."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from scores.log.head import Log, log

SAMPLE_EVERY_S = 60.0
LOOK_EVERY_S = 5.0  # so that a sample is not long in coming after nobody could count
# Two processes that sample at once do no harm: a peak that is noted twice is the same peak.
NOTE_SQL = """
    INSERT INTO engagement_sockets AS s (hour, peak, samples)
    VALUES (date_trunc('hour', clock_timestamp(), 'UTC'), %s, 1)
    ON CONFLICT (hour) DO UPDATE SET peak = greatest(s.peak, excluded.peak), samples = s.samples + 1
"""


class SocketSampler:
    """Notes how many sockets are open. Who knows that is above this package, and says so by `watch`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._open_sockets: Callable[[], int | None] | None = None
        self._sampled_at = -math.inf  # monotonic seconds

    def watch(self, open_sockets: Callable[[], int | None]) -> None:
        """From now on samples are what this answers: the sockets of all processes, or `None` if nobody knows."""
        self._open_sockets = open_sockets

    def sample(self) -> bool:
        """Note the sockets that are open, if that is known, at most once a minute. There is never more to do at once."""
        if self._open_sockets is None or time.monotonic() - self._sampled_at < SAMPLE_EVERY_S:
            return False
        count = self._open_sockets()
        if count is not None:
            with self._log.connection.cursor() as cursor:
                cursor.execute(NOTE_SQL, [count])
            self._log.connection.close()  # one that is used once a minute is worth no session
            self._sampled_at = time.monotonic()
        return False


sampler = SocketSampler(log)
