"""A minute in which nothing happens, on stores of its own, beside the tests that go on meanwhile."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from websockets.sync.client import connect

from tools.chaos.load import token
from tools.chaos.world import environment, make_tables, stores
from tools.servers import Server

SILENT_S = 62


class Minute(NamedTuple):
    first: str
    frames: list[str]  # after the first, while nothing happened
    then: dict[str, Any]  # what came of a score after that


def begin(folder: Path, ended: threading.Event) -> Future[Minute]:
    """Start it; what it saw is there in about `SILENT_S` seconds, or soon after `ended`."""
    threads = ThreadPoolExecutor(1, thread_name_prefix="silence")
    minute = threads.submit(_watch, folder, ended)
    threads.shutdown(wait=False)
    return minute


def _watch(folder: Path, ended: threading.Event) -> Minute:
    with stores(folder) as (postgresql, redis):
        env = environment(postgresql, redis.port)
        make_tables(env)
        server = Server(log=folder / "server.log", env=env).start()
        try:
            # No pings of the client's: what keeps the line alive has to come from the server.
            with connect(server.ws_url, ping_interval=None) as socket:
                first = str(socket.recv(timeout=10))
                frames = []
                until = time.monotonic() + SILENT_S
                while time.monotonic() < until and not ended.is_set():
                    try:
                        frames.append(str(socket.recv(timeout=0.5)))
                    except TimeoutError:
                        pass
                headers = {"Authorization": f"Bearer {token('ann', env['JWT_SIGNING_KEY'])}"}
                httpx.post(f"{server.url}/api/v1/scores/increment", json={"points": 7}, headers=headers)
                return Minute(first, frames, json.loads(socket.recv(timeout=10)))
        finally:
            server.stop()
