"""One reader, many sockets: who is told what, and when."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection
from prometheus_client import REGISTRY
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect

from leaderboard_site.operations import health
from realtime import hub as hub_module
from realtime.hub import Hub, hub
from scores import services
from scores.board import LEADERBOARD
from scores.projection.leaderboard import leaderboard
from scores.stores.redis import breaker
from tools.servers import ROOT, Server


async def next_frame(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return dict(json.loads(await socket.recv()))


async def frame_of(socket: ClientConnection, *, seq: int) -> dict[str, Any]:
    """The first frame of this event or a later one. A server that stood still repeats the last one before, with an age."""
    while (frame := await next_frame(socket))["seq"] < seq:
        pass
    return frame


def set_total(user_id: str, total: int) -> None:
    services.correct(user_id=user_id, total=total, actor="test", reason="test")


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("after_s", [0, 0.001, 0.05])
async def test_it_stops_however_soon_after_its_start(after_s: float) -> None:
    hub = Hub(LEADERBOARD)
    hub.start()
    await asyncio.sleep(after_s)

    async with asyncio.timeout(30):
        await hub.stop()

    assert not hub.running


@pytest.fixture
async def running(board: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """The hub of this process, which looks at the board only when it is woken, and has joined the group."""
    monkeypatch.setattr(hub_module, "LOOK_EVERY_S", 600.0)
    read_at = hub._read_at
    hub.start()
    await eventually(lambda: hub._read_at != read_at and hub._receiving is not None)
    yield hub
    await hub.stop()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for `condition` while the event loop turns."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  not all that is waited for is an event
            await asyncio.sleep(0.005)


def shown(hub: Hub) -> list[tuple[str, int]]:
    assert hub._page is not None
    return [(entry.user_id, entry.score) for entry in hub._page.entries]


async def test_a_change_of_this_process_reaches_its_sockets_without_redis(running: Hub) -> None:
    breaker.failed()  # so that nothing is asked of Redis for a second: nobody is told over the group

    await asyncio.to_thread(set_total, "ann", 7)

    await eventually(lambda: shown(running) == [("ann", 7)])


async def test_a_change_of_this_process_is_one_read(running: Hub, redis: Redis) -> None:
    """It is woken by its own process, and by the echo on the group not once more."""
    await asyncio.to_thread(rebuild)  # or there would be no copy to move, and nothing on the group
    before, now = reads(), asyncio.get_running_loop().time
    with redis.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe("asgi__group__leaderboard")

        for total in (1, 2, 3):
            await asyncio.to_thread(set_total, "ann", total)
            await eventually(partial(is_shown, running, total))
            await eventually(lambda: b"leaderboard.changed" in (listener.get_message() or {"data": b""})["data"])
            await eventually(lambda: now() - running._read_at > 4 * settings.FRAME_INTERVAL_MS / 1000)

        redis.publish("asgi__group__leaderboard", b"after all echoes")
        await eventually(lambda: reads() - before > 3)
    assert reads() - before == 4, "an echo for each change would make seven"


def is_shown(hub: Hub, total: int) -> bool:
    return shown(hub) == [("ann", total)]


def rebuild() -> None:
    leaderboard.rebuild()
    connection.close()  # this thread's


def reads() -> float:
    return sum(
        REGISTRY.get_sample_value("leaderboard_reads_total", {"source": source}) or 0
        for source in ("redis", "database")
    )


@pytest.mark.parametrize("name", ["listen", "publish", "push"])
async def test_a_task_that_ends_all_the_same_makes_it_unready_and_begins_again(
    name: str, running: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub_module, "RESTART_AFTER_S", 0.2)
    assert await health.readiness() == (200, "ok")

    def has_ended() -> bool:
        running._tasks[name].cancel()  # more than once: a Redis client that is connecting swallows it
        return running.fault == f"{name} ended"

    await eventually(has_ended)
    async with asyncio.timeout(30):
        while await health.readiness() != (503, "hub ended"):  # it has begun again, on a machine that stood still
            running._tasks[name].cancel()
    assert f"The hub's task '{name}' ended" in caplog.text
    await eventually(lambda: running.fault is None)
    await asyncio.to_thread(set_total, "ann", 7)
    await eventually(lambda: shown(running) == [("ann", 7)])
    assert await health.readiness() == (200, "ok")


@pytest.mark.parametrize(
    ("message", "wakes"),
    [
        ({"type": "leaderboard.changed", "seq": 7, "hub": "own"}, False),  # it has known that for longer
        ({"type": "leaderboard.proof", "hub": "own"}, False),
        ({"type": "leaderboard.proof", "hub": "another"}, False),
        ({"type": "leaderboard.changed", "seq": 7, "hub": "another"}, True),
        ({"type": "leaderboard.changed", "seq": 0, "hub": ""}, True),  # a command's, or of another epoch
        ({"type": "leaderboard.changed", "seq": 7}, True),  # of the version before
        ({"hub": ["own"]}, True),
        ("own", True),
        (None, True),
    ],
)
async def test_a_message_on_the_group_wakes_it_unless_it_is_its_own(message: Any, wakes: bool, running: Hub) -> None:
    running._id = "own"
    running._changed.clear()

    running._hear(message)

    assert running._changed.is_set() == wakes


async def test_what_the_layer_cannot_read_wakes_it_and_does_not_end_it(
    running: Hub, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    read_at = running._read_at

    def is_awake() -> bool:
        for garbage in (b"", b"\xc1", b"\x93"):
            redis.publish("asgi__group__leaderboard", garbage)
        return running._read_at > read_at

    await eventually(is_awake)
    assert running._receiving is not None
    assert not running._receiving.done()
    assert caplog.text.count("Another program writes to the group") == 1


@pytest.mark.usefixtures("board")
async def test_a_redis_that_hangs_up_at_every_try_fills_no_memory(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LOOK_EVERY_S", 0.005)
    tries = 0

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as nobody:
        config = {"hosts": [f"redis://127.0.0.1:{nobody.sockets[0].getsockname()[1]}"]}
        backend = settings.CHANNEL_LAYERS["default"]["BACKEND"]
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
        hub = Hub(LEADERBOARD)
        hub.start()

        await eventually(lambda: tries >= 40)

        layer: Any = get_channel_layer()
        assert len(layer.channels) <= 1
        assert hub.group_fault == "Redis does not answer"
        await hub.stop()


async def test_a_change_that_another_process_made_reaches_every_socket(server: Server) -> None:
    async with connect(server.ws_url) as one, connect(server.ws_url) as another:
        assert [(await next_frame(socket))["leaderboard"] for socket in (one, another)] == [[], []]

        await asyncio.to_thread(set_total, "ann", 7)

        frames = [await frame_of(socket, seq=1) for socket in (one, another)]
        assert frames[0]["leaderboard"] == [{"userId": "ann", "score": 7}]
        assert frames[0] == frames[1]


async def test_a_socket_opened_while_redis_has_just_been_emptied_gets_the_right_board(
    server: Server, redis: Redis
) -> None:
    await asyncio.to_thread(set_total, "ann", 7)
    async with connect(server.ws_url) as socket:  # so that the hub has seen it
        while (await next_frame(socket))["seq"] < 1:
            pass

        redis.flushall()

        for _ in range(20):
            async with connect(server.ws_url) as newcomer:
                assert (await next_frame(newcomer))["leaderboard"] == [{"userId": "ann", "score": 7}]


async def test_an_unchanged_top_10_is_not_sent_again(server: Server) -> None:
    for number in range(10):
        await asyncio.to_thread(set_total, f"user{number}", 100)
    async with connect(server.ws_url) as socket:
        while (await next_frame(socket))["seq"] < 10:
            pass

        await asyncio.to_thread(set_total, "somebody below", 1)
        await asyncio.to_thread(set_total, "user5", 200)

        while "age" in (frame := await next_frame(socket)) or frame["seq"] == 10:  # again: the server stood still
            pass
        assert frame["seq"] == 12
        assert frame["leaderboard"][0] == {"userId": "user5", "score": 200}


async def test_a_socket_that_never_reads_costs_the_others_nothing(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
    writer.write(HANDSHAKE)
    reader._transport.pause_reading()  # type: ignore[attr-defined]  # nothing of what arrives is taken
    async with connect(server.ws_url) as socket:
        await next_frame(socket)

        for total in range(1, 6):
            await asyncio.to_thread(set_total, "ann", total)
            while (await next_frame(socket))["leaderboard"] != [{"userId": "ann", "score": total}]:
                pass

    writer.transport.abort()


HANDSHAKE = b"\r\n".join(
    [
        b"GET /ws/leaderboard/ HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"\r\n",
    ]
)


async def test_a_change_made_by_a_command_reaches_the_sockets(server: Server) -> None:
    program = (
        "import django; django.setup()\n"
        "from scores import services\n"
        "services.block(user_id='ann', actor='admin', reason='cheated')\n"
    )
    await asyncio.to_thread(set_total, "ann", 7)
    async with connect(server.ws_url) as socket:
        while (await next_frame(socket))["leaderboard"] != [{"userId": "ann", "score": 7}]:
            pass

        env = server.env | {"DJANGO_SETTINGS_MODULE": "leaderboard_site.settings"}
        command = [sys.executable, "-c", program]
        await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=env, check=True)

        assert (await frame_of(socket, seq=2))["leaderboard"] == []
