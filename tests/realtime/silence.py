"""A minute in which nothing happens, on stores of its own, beside the tests that go on meanwhile.

One of the processes that share the tests lives through it; whichever runs the test of it reads there what it saw.
"""

from __future__ import annotations

import json
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from websockets.sync.client import connect

from tests.polling import until
from tools.chaos.load import token
from tools.chaos.world import environment, stores
from tools.manage import make_tables
from tools.servers import Server

SILENT_S = 62
MINUTE = "minute.json"


class Minute(NamedTuple):
    first: str
    frames: list[str]  # after the first, while nothing happened
    then: dict[str, Any]  # what came of a score after that


def begin(folder: Path, ended: threading.Event) -> threading.Thread:
    """Start it; what it saw is in `folder` in about `SILENT_S` seconds, or soon after `ended`."""
    thread = threading.Thread(target=_live_through, args=(folder, ended), name="silence")
    thread.start()
    return thread


def seen(folder: Path) -> Minute:
    """What it saw, as soon as it is there."""
    until(lambda: (folder / MINUTE).exists(), timeout_s=300)
    told = json.loads((folder / MINUTE).read_text())
    assert "error" not in told, told["error"]
    return Minute(**told)


def _live_through(folder: Path, ended: threading.Event) -> None:
    folder.mkdir()
    told: dict[str, Any]
    try:
        told = _watch(folder, ended)._asdict()
    except Exception:
        told = {"error": traceback.format_exc()}
    new = folder / f"{MINUTE}.new"
    new.write_text(json.dumps(told))
    new.rename(folder / MINUTE)  # whole, or not there


def _watch(folder: Path, ended: threading.Event) -> Minute:
    with stores(folder) as (postgresql, redis):
        env = environment(postgresql, redis.port)
        make_tables(env)
        server = Server(log=folder / "server.log", env=env).start()
        try:
            # No pings of the client's: what keeps the line alive has to come from the server.
            with connect(server.ws_url, ping_interval=None) as socket:
                first = str(socket.recv(timeout=60))
                frames = []
                silent_until = time.monotonic() + SILENT_S
                while time.monotonic() < silent_until and not ended.is_set():
                    try:
                        frames.append(str(socket.recv(timeout=0.5)))
                    except TimeoutError:
                        pass
                headers = {"Authorization": f"Bearer {token('ann', env['JWT_SIGNING_KEY'])}"}
                httpx.post(f"{server.url}/api/v1/scores/increment", json={"points": 7}, headers=headers)
                return Minute(first, frames, json.loads(socket.recv(timeout=60)))
        finally:
            server.stop()
