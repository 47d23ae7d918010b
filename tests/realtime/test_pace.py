"""When the next round of sending comes."""

from __future__ import annotations

import asyncio

from realtime.pace import Pace


async def test_a_round_that_stood_still_delays_the_next_one_no_further() -> None:
    """As in a process that was stopped amid a round, or a machine that slept: a quarter of an hour, here."""
    pace, changed = Pace(), asyncio.Event()
    changed.set()

    async with asyncio.timeout(30):
        await pace.next_round(asyncio.get_running_loop().time() - 3600, changed, look_every_s=600)
