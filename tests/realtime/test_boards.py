"""Sockets of boards: what they show, when, and to whom."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from realtime import board_consumers, board_hub
from realtime.board_consumers import MAX_BOARDS, PROTOCOL, BoardConsumer, split
from realtime.board_frames import BoardUpdate
from realtime.board_hub import BoardHub
from realtime.socket_writer import FRAMES, SocketWriter
from scores import service_tokens, services
from scores.access.authentication import CLOCK_SKEW_S
from scores.boards import definitions
from scores.boards.documents import parse
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Leaderboard
from tests.conftest import TokenFor
from tests.scores.conftest import be_ahead
from tools.servers import CHOSEN, Server

Row = tuple[int, str, int]
HOUR = timedelta(hours=1)


def in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """For the event loop; no connection of the thread stays behind."""

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    return sync_to_async(run, thread_sensitive=True)


@in_thread
def make(name: str, **fields: Any) -> None:
    definitions.create(parse({"name": name, "fold": "sum"} | fields))


@in_thread
def add(user_id: str, points: int) -> int:
    (outcome,) = writer.record([Change(Kind.INCREMENT, user_id, points)])
    return int(outcome.seq)  # type: ignore[union-attr]


@in_thread
def pass_boundary() -> None:
    """As if the clock of the log had come to the end of the period."""
    Leaderboard.objects.update(at=Leaderboard.objects.get().next_boundary)


def opened(server: Server, address: str, *subprotocols: str, **options: Any) -> connect:
    url = f"ws://127.0.0.1:{server.port}/ws/boards/{address}"
    return connect(url, subprotocols=list(subprotocols) or None, **options)  # type: ignore[arg-type]


def bearer(token: str) -> tuple[str, str]:
    return PROTOCOL, f"bearer.{token}"


async def next_frame(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return dict(json.loads(await socket.recv()))


def rows(frame: dict[str, Any]) -> list[Row]:
    return [(entry["rank"], entry["userId"], entry["score"]) for entry in frame["leaderboard"]]


async def shown(socket: ClientConnection, *expected: Row, board: str, period: int = 1) -> dict[str, Any]:
    """The first frame that shows these rows of that period. All before it are of no later event."""
    last = 0
    while True:
        frame = await next_frame(socket)
        if frame["board"] == board:
            assert frame["seq"] >= last
            last = frame["seq"]
            if (frame["period"], rows(frame)) == (period, list(expected)):
                return frame


async def end_of(socket: ClientConnection) -> tuple[int | None, str | None]:
    """The code and the reason with which the server closes it, whatever it sends before."""
    async with asyncio.timeout(30):
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code, socket.close_reason


def end(code: int, reason: str) -> tuple[int, str]:
    """As the server of the tests tells it: daphne sends no reasons."""
    return code, "" if os.environ[CHOSEN] == "daphne" else reason


# Addresses

MANY = "&".join(f"board=b{n}" for n in range(MAX_BOARDS + 1))


@pytest.mark.writes_nothing
@pytest.mark.parametrize(
    ("address", "code", "reason"),
    [
        ("nobody-made-it/", 4404, "board_unknown"),
        ("nobody-made-it", 4404, "board_unknown"),
        ("?board=leaderboard&board=nobody-made-it", 4404, "board_unknown"),
        ("?board=", 4404, "board_unknown"),
        ("%00/", 4404, "board_unknown"),
        ("%0A", 4404, "board_unknown"),
        (quote("Zoë\U0001f3c6"), 4404, "board_unknown"),
        ("?board=%ff%00%f0", 4404, "board_unknown"),
        (f"{'x' * 2000}/", 4404, "board_unknown"),
        ("", 4400, "expected 1 to 20 boards: ?board=a&board=b"),
        ("?boards=a", 4400, "expected 1 to 20 boards: ?board=a&board=b"),
        (f"?{MANY}", 4400, "expected 1 to 20 boards: ?board=a&board=b"),
    ],
)
async def test_there_is_no_such_board(address: str, code: int, reason: str, server: Server) -> None:
    async with opened(server, address) as socket:
        assert await end_of(socket) == end(code, reason)


@pytest.mark.writes_nothing
@pytest.mark.parametrize("address", ["leaderboard/", "leaderboard", "?board=leaderboard", "/?board=leaderboard&x=%ff"])
async def test_the_default_board_is_a_board_too(address: str, server: Server) -> None:
    async with opened(server, address.removeprefix("/")) as socket:
        frame = await next_frame(socket)

    # It may have an age: the server has stood still between two tests.
    assert [name for name in frame if name != "age"] == [name for name in BoardUpdate.__annotations__ if name != "age"]
    assert (frame["type"], frame["board"], frame["period"]) == ("board_update", "leaderboard", 1)
    assert (frame["startsAt"], frame["endsAt"], frame["leaderboard"]) == (None, None, [])


async def test_a_board_that_is_named_twice_is_sent_once(server: Server) -> None:
    async with opened(server, "?board=leaderboard&board=leaderboard") as socket:
        await add("ann", 5)
        frames = [await shown(socket, (1, "ann", 5), board="leaderboard")]
        await add("bob", 7)
        while frames[-1]["seq"] < 2:
            frames.append(await next_frame(socket))

    told = [(frame["seq"], rows(frame)) for frame in frames if "age" not in frame]
    assert told == [(1, [(1, "ann", 5)]), (2, [(1, "bob", 7), (2, "ann", 5)])]


@pytest.mark.writes_nothing
@pytest.mark.parametrize("path", ["/ws/boards", "/ws/boards/", "/ws/boards/weekly", "/ws/boards/weekly/?x=1"])
def test_a_plain_request_is_told_that_it_is_a_websocket(path: str, server: Server) -> None:
    assert httpx.get(f"{server.url}{path}", verify=False).status_code == 426
    assert httpx.get(f"{server.url}/ws/boards/a/b", verify=False).status_code == 404


@pytest.mark.writes_nothing
async def test_what_a_client_says_changes_nothing(server: Server) -> None:
    async with opened(server, "leaderboard/") as socket:
        first = await next_frame(socket)
        for said in ("{", '{"board": "weekly"}', b"\x00\xff", "x" * 1024):
            await socket.send(said)

        async with opened(server, "leaderboard/") as another:
            passing = {"at": None, "age": None}  # it has an age if the server has stood still between two tests
            assert await next_frame(another) | passing == first | passing


# What is sent, and when


async def test_boards_on_one_socket_move_and_roll_over_although_nobody_scores(server: Server) -> None:
    noon = await in_thread(be_ahead)()
    await make("ever")
    await make("daily", period="daily", title="Today")
    async with opened(server, "?board=daily&board=ever") as both, opened(server, "daily/") as one:
        for board in ("daily", "ever"):
            await shown(both, board=board)
        first = await shown(one, board="daily")
        assert first["startsAt"] < noon.isoformat() < first["endsAt"]

        await add("ann", 5)
        await add("bea", 5)
        await add("cem", 3)

        expected = [(1, "ann", 5), (1, "bea", 5), (3, "cem", 3)]
        before = await shown(one, *expected, board="daily")
        async with opened(server, "ever") as late:
            assert rows(await next_frame(late)) in (expected, expected[:2], expected[:1], [])

        await pass_boundary()

        after = await shown(one, board="daily", period=2)
        assert (after["seq"], after["startsAt"]) == (before["seq"], before["endsAt"])
        await shown(both, board="daily", period=2)
        await add("dan", 1)
        await shown(both, (1, "dan", 1), board="daily", period=2)
        await shown(both, *expected, (4, "dan", 1), board="ever")

        await in_thread(definitions.delete)("daily")

        assert await end_of(one) == end(4404, "board_unknown")
        assert await end_of(both) == end(4404, "board_unknown")


async def test_a_period_that_no_other_follows_is_said_to_be_over_at_once(server: Server) -> None:
    now = datetime.now(UTC)
    season = {"startsAt": (now - HOUR).isoformat(), "endsAt": (now + HOUR).isoformat()}
    await make("cup", period="season", seasons=[season])
    async with opened(server, "cup/") as socket:
        before = await shown(socket, board="cup")
        await pass_boundary()
        async with asyncio.timeout(10):  # less than a heartbeat
            after = await next_frame(socket)

    assert (before["isCurrent"], after["isCurrent"]) == (True, False)
    assert after | {"at": None, "isCurrent": True} == before | {"at": None}


async def test_a_socket_sees_the_time_of_the_server_and_not_of_the_last_change(server: Server) -> None:
    async with opened(server, "leaderboard/") as first:
        before = await next_frame(first)
        async with opened(server, "leaderboard/") as second:
            after = await next_frame(second)

    assert after["at"] > before["at"]


# Boards by token


async def test_a_board_that_was_deleted_and_made_anew_is_another(server: Server) -> None:
    """Most likely between two looks of the hub, which knows boards by their names."""
    await make("weekly")
    async with opened(server, "weekly/") as socket:
        await shown(socket, board="weekly")
        await in_thread(definitions.delete)("weekly")
        await make("weekly")

        assert await end_of(socket) == end(4404, "board_unknown")


async def test_a_board_by_token(server: Server, token_for: TokenFor) -> None:
    await make("club", isPublic=False)
    async with opened(server, "club/", *bearer(token_for("ann"))) as socket:
        assert socket.subprotocol == PROTOCOL
        await shown(socket, board="club")
        expires_at = int(time.time()) - CLOCK_SKEW_S + 8  # time for a machine that stands still to open it
        async with opened(server, "?board=leaderboard&board=club", *bearer(token_for("ann", exp=expires_at))) as short:
            await shown(short, board="club")
            async with opened(server, "club/") as stranger:
                assert await end_of(stranger) == end(4401, "not_authenticated")
            async with opened(server, f"club/?token={token_for('ann')}", PROTOCOL) as stranger:
                assert await end_of(stranger) == end(4401, "not_authenticated")
            async with opened(server, "?board=leaderboard&board=club") as stranger:
                assert await end_of(stranger) == end(4401, "not_authenticated")
            assert await end_of(short) == end(4401, "token_expired")
        await add("ann", 1)
        await shown(socket, (1, "ann", 1), board="club")


async def test_a_board_that_is_made_private_ends_the_sockets_without_a_token(
    server: Server, token_for: TokenFor
) -> None:
    await make("club")
    async with opened(server, "club/") as stranger, opened(server, "club/", *bearer(token_for("ann"))) as member:
        await shown(stranger, board="club")

        await in_thread(definitions.change)("club", {"isPublic": False})

        assert await end_of(stranger) == end(4401, "not_authenticated")
        await shown(member, board="club")
        await add("ann", 1)
        await shown(member, (1, "ann", 1), board="club")


@pytest.mark.writes_nothing
async def test_a_token_that_is_not_good_is_refused(server: Server, token_for: TokenFor) -> None:
    ann, protocols = token_for("ann"), bearer(token_for("ann"))
    for offered, expected in (
        (bearer("x"), (4401, "token_invalid")),
        (bearer(""), (4401, "token_invalid")),
        (bearer(token_for("ann", exp=1)), (4401, "token_expired")),
        (bearer(token_for("ann", exp=2**62)), (4401, "token_invalid")),
        (bearer(token_for("ann")[:-1] + "!"), (4401, "token_invalid")),
        (protocols[1:], (4400, "expected the subprotocols leaderboard.v1 and bearer.TOKEN")),
        ((*protocols, f"bearer.{ann}x"), (4400, "expected the subprotocols leaderboard.v1 and bearer.TOKEN")),
    ):
        async with opened(server, "leaderboard/", *offered) as socket:
            assert await end_of(socket) == end(*expected), offered


async def test_who_is_blocked_and_which_token_is_revoked(server: Server, token_for: TokenFor) -> None:
    issued = await in_thread(service_tokens.issue)(name="arena", scopes=["events:void"], days=1, created_by="test")
    async with opened(server, "leaderboard/", *bearer(issued.secret)) as socket:
        await next_frame(socket)
    await in_thread(service_tokens.revoke)(issued.row.prefix)
    await in_thread(services.block)(user_id="ann", actor="test", reason="test")

    async with opened(server, "leaderboard/", *bearer(issued.secret)) as socket:
        assert await end_of(socket) == end(4401, "token_revoked")
    async with opened(server, "leaderboard/", *bearer(token_for("ann"))) as socket:
        assert await end_of(socket) == end(4401, "user_blocked")


# Without a server


class Client:
    """A socket of this process: what is sent to it, and its end."""

    def __init__(self, board: str = "leaderboard", *subprotocols: str) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.scope: Any = {
            **{"type": "websocket", "client": ("127.0.0.1", 1), "subprotocols": subprotocols},
            "url_route": {"kwargs": {"board": board}},
        }

    async def __aenter__(self) -> Client:
        self._said.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(BoardConsumer()(self.scope, self._said.get, self.sent.put))
        assert (await self.next())["type"] == "websocket.accept"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._said.put_nowait({"type": "websocket.disconnect", "code": 1005})
        await self._task

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            return await self.sent.get()


@pytest.fixture
async def hub(board: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub of boards of this process."""
    hub = BoardHub()
    monkeypatch.setattr(board_consumers, "board_hub", hub)
    yield hub
    await hub.stop()


async def test_a_hub_works_only_while_somebody_watches(hub: BoardHub) -> None:
    hub.wake(7)
    assert tasks() == []

    for _ in range(2):
        async with Client() as client:
            await client.next()
            assert tasks() == ["board hub"]

        async with asyncio.timeout(30):
            while tasks():  # noqa: ASYNC110  the hub tells nobody
                await asyncio.sleep(0.01)


def tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "board hub"]


async def test_a_hub_that_failed_starts_again(
    hub: BoardHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(board_hub, "RESTART_AFTER_S", 0.01)
    async with Client() as client:
        await client.next()
        for task in asyncio.all_tasks():
            if task.get_name() == "board hub":
                task.cancel()

        await add("ann", 5)

        assert '"ann"' in (await client.next())["text"]
    assert "starts again" in caplog.text


async def test_without_a_change_the_same_again(hub: BoardHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_hub, "HEARTBEAT_S", 0.2)
    async with Client() as client:
        first, second = [json.loads((await client.next())["text"]) for _ in range(2)]

    assert first["at"] < second["at"]
    assert first | {"at": None} == second | {"at": None}


async def test_a_user_who_is_blocked_later_is_seen_off(
    hub: BoardHub, monkeypatch: pytest.MonkeyPatch, token_for: TokenFor
) -> None:
    monkeypatch.setattr(board_consumers, "CHECK_EVERY_S", 0.05)
    async with Client("leaderboard", *bearer(token_for("ann"))) as client:
        await client.next()

        await in_thread(services.block)(user_id="ann", actor="test", reason="test")

        while (event := await client.next())["type"] == "websocket.send":
            pass
        assert event == {"type": "websocket.close", "code": 4401, "reason": "user_blocked"}


async def test_a_slow_socket_keeps_the_newest_frame_of_each_board() -> None:
    written: list[bytes] = []
    reports: list[Callable[[bool], None]] = []
    taken = asyncio.Event()

    def watch(report: Callable[[bool], None]) -> None:
        reports.append(report)
        report(True)

    async def send(event: Any) -> None:
        await taken.wait()
        written.append(event["text"].encode())

    scope = {"extensions": {FRAMES: {"write": written.append, "watch": watch}}}
    first, second = (SocketWriter(each, send) for each in split(scope, 2))
    assert len(reports) == 1  # the server knows one
    frame = {name: b"\x81\x02" + name.encode() for name in ("a1", "a2", "a3", "b1", "b2")}
    first.offer(frame["a1"])
    assert written == [frame["a1"]]  # at once

    reports[0](False)
    for name in ("a2", "a3"):
        first.offer(frame[name])
    second.offer(frame["b1"])
    await asyncio.sleep(0)
    for _ in range(2):
        first.offer(frame["a3"])
        second.offer(frame["b2"])
    taken.set()
    async with asyncio.timeout(30):
        while len(written) < 5:  # noqa: ASYNC110  the writers tell nobody
            await asyncio.sleep(0)

    assert sorted(written[1:]) == [b"a2", b"a3", b"b1", b"b2"]
