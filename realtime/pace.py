"""The pace of a hub: when its next round of sending comes."""

from __future__ import annotations

import asyncio

from django.conf import settings

STRETCH = 1.25  # the shortest interval between two rounds of sending, in durations of the round before
LONGEST_ROUND_S = 2.0  # that is believed: one that took longer stood still, as all of a suspended machine does
EARLY = 0.2  # of the interval: by up to this much, a round comes earlier to make up for a late one


class Pace:
    """Of rounds that come `FRAME_INTERVAL_MS` apart or more, and wait for a change. Needs a running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()

    async def next_round(self, started: float, changed: asyncio.Event, *, look_every_s: float) -> None:
        """Wait, after the round that started at `started` (of the loop's clock), until the next one is due.

        Then for `changed`, which is cleared, or for `look_every_s` seconds if nobody sets it.
        """
        took_s = min(self._loop.time() - started, LONGEST_ROUND_S)
        interval_s = max(settings.FRAME_INTERVAL_MS / 1000, STRETCH * took_s)
        # The next round counts from when this one was due, not from when it started: with a change every 50 ms, all
        # rounds would otherwise be late once one was.
        self._due = max(self._due + interval_s, started + (1 - EARLY) * interval_s)
        await asyncio.sleep(self._due - self._loop.time())
        try:
            async with asyncio.timeout(look_every_s):
                await changed.wait()
        except TimeoutError:
            pass
        changed.clear()
