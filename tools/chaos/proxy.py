"""What stands between the service and its Redis, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import threading
from enum import Enum


class Mood(Enum):
    PASSING = "passing"
    REFUSING = "refusing"  # connections are cut, new ones as well
    SILENT = "silent"  # connections are taken, and nothing is ever answered
    SLOW = "slow"  # everything arrives, the answers 200 ms late


SLOW_S = 0.2


class Proxy:
    """A TCP proxy on loopback, in a thread and an event loop of its own."""

    def __init__(self, port: int, to: int) -> None:
        self.port = port
        self._to = to
        self._mood = Mood.PASSING
        self._lines: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._listening = threading.Event()
        self._thread.start()
        self._listening.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def be(self, mood: Mood) -> None:
        """Change for all connections; those that were silent are cut when it passes again, as a restarted host would."""
        asyncio.run_coroutine_threadsafe(self._be(mood), self._loop).result()

    def lead_to(self, port: int) -> None:
        """Connections that are made from now on lead there; those that there are stay where they are."""
        self._to = port

    async def _be(self, mood: Mood) -> None:
        before, self._mood = self._mood, mood
        if mood is Mood.REFUSING or before is Mood.SILENT:
            for line in self._lines:
                line.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._listening.set()
        self._loop.run_forever()
        server.close()
        for task in (tasks := asyncio.all_tasks(self._loop)):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mood is Mood.REFUSING:
            writer.transport.abort()
            return
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._lines |= {writer, onward}
        try:
            await asyncio.gather(self._pump(reader, onward), self._pump(there, writer, answers=True))
        except OSError:
            pass
        finally:
            self._lines -= {writer, onward}
            writer.transport.abort()
            onward.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        while data := await reader.read(65536):
            if self._mood is Mood.SILENT:
                continue
            if self._mood is Mood.SLOW and answers:
                await asyncio.sleep(SLOW_S)
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
