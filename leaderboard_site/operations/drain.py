"""The time between SIGTERM and the end of this server, in which a load balancer stops sending it work."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Any

from django.conf import settings


class Drain:
    """Once it has `begun`, `/healthz/ready` says 503; the server works on for DRAIN_S, then ends as it would have."""

    begun = False

    def watch(self) -> None:
        """Handles SIGTERM before the server's own handler, if the server has one. Call it in the main thread's loop."""
        handler: Any = signal.getsignal(signal.SIGTERM)
        if not callable(handler):
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            if settings.DRAIN_S and not self.begun:  # a second SIGTERM ends the server at once
                loop.call_soon_threadsafe(loop.call_later, settings.DRAIN_S, handler, number, None)
            else:
                handler(number, frame)
            self.begun = True

        signal.signal(signal.SIGTERM, begin)


drain = Drain()
