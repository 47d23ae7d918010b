"""The time between the news that this server is to end and its end, in which others stop sending it work."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Any

from django.conf import settings


class Drain:
    """Has it `begun`, `/healthz/ready` says so; everything else goes on for DRAIN_S, then the server ends as it would have."""

    begun = False

    def watch(self) -> None:
        """Come before the server's own handler of SIGTERM, in a server that has one. Call it in the main thread's loop."""
        handler: Any = signal.getsignal(signal.SIGTERM)
        if not callable(handler):
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            if settings.DRAIN_S and not self.begun:  # whoever says it twice means now
                loop.call_soon_threadsafe(loop.call_later, settings.DRAIN_S, handler, number, None)
            else:
                handler(number, frame)
            self.begun = True

        signal.signal(signal.SIGTERM, begin)


drain = Drain()
