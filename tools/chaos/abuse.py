"""Clients that want to cost much: what they get, what it costs the server, and whether anybody else notices. `make abuse`

The abusers are a process of their own, on an address of their own; the witness, on another, scores ten times a second
and measures how long each change takes from its request to its frame. Only the limit of handshakes is off, so that what
is behind it can be hurt.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

from tools.servers import Server

from .load import token
from .world import Service, service

LIMITS = {"RATE_LIMIT": "120/minute", "HANDSHAKE_RATE_LIMIT": "off", "TRUSTED_PROXIES": "127.0.0.1", "WORKERS": "1"}
WITNESS, ABUSER = "192.0.2.1", "192.0.2.2"
TIMES = 2  # each abuse is done
USERS = 10  # of the witness, all of them on the top 10; each scores once a second, which is below the limit
HANDSHAKE = (
    "GET /ws/leaderboard/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Forwarded-For: {ABUSER}\r\n\r\n"
).encode()
LARGE_FILE = "/static/admin/js/vendor/jquery/jquery.js"  # 285 KB
GOODBYE = bytes([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8])  # 1000
A_FRAME = bytes([0x81, 0x81, 0, 0, 0, 0, 0x78])  # the text "x", masked with zeros

Told = Counter[str]


class Figures(NamedTuple):
    name: str
    told: Told  # what became of the abusers
    memory_before: float  # MiB
    memory_most: list[float]  # MiB, of each time it was done: what was taken once is used again
    delay_before: float  # ms, 95th percentile, from a request to the frame that shows it
    delay_during: float


# What abusers do, each in a process of its own


async def half_handshakes(port: int, count: int) -> Told:
    """Begin `count` handshakes, end none, and hold on for as long as one is let."""

    async def hold() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE[:100])
        try:
            async with asyncio.timeout(30):
                return "cut" if await reader.read() == b"" else "answered"
        except TimeoutError:
            return "held"
        except ConnectionError:
            return "cut"
        finally:
            writer.close()

    return Counter(await asyncio.gather(*(hold() for _ in range(count))))


async def talk(port: int, count: int) -> Told:
    """Send `count` frames at a thousand a second, on a new socket whenever one is closed."""
    told: Told = Counter()
    begun, sent = time.monotonic(), 0
    while sent < count:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        end = asyncio.create_task(end_of(reader))
        while not end.done() and sent < count:
            due = int((time.monotonic() - begun) * 1000) - sent
            writer.write(A_FRAME * max(0, due))
            sent += max(0, due)
            await asyncio.sleep(0.005)
        told[str(await end) if end.done() else "open"] += 1
        end.cancel()
        writer.close()
    told["frames"] = sent
    return told


async def crowd(port: int, count: int) -> Told:
    """Open `count` sockets and hold those that stay open for two seconds."""

    async def come() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE)
        try:
            await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(2 + count / 500):
                return str(await end_of(reader))
        except TimeoutError:
            return "open"
        except ConnectionError:
            return "cut"
        finally:
            writer.close()

    return Counter(await asyncio.gather(*(come() for _ in range(count))))


async def large_bodies(port: int, count: int) -> Told:
    """Send `count` bodies of 60 MB, each with its true length."""
    return await bodies(port, count, b"Content-Length: 60000000", b" " * 2**16)


async def endless_bodies(port: int, count: int) -> Told:
    """Send `count` bodies in chunks, a little now and then, for as long as one is let."""
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"
    return await bodies(port, count, b"Transfer-Encoding: chunked", chunk, pause_s=0.2)


async def bodies(port: int, count: int, length: bytes, part: bytes, *, pause_s: float = 0.0) -> Told:
    """What was answered to each of `count` requests for a token, sent at once, or whether it was cut before that."""

    async def push() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (b"POST /api/v1/auth/token HTTP/1.1", b"Host: 127.0.0.1", b"Content-Type: application/json", length)
        writer.write(b"\r\n".join((*head, f"X-Forwarded-For: {ABUSER}".encode(), b"", b"")))
        answered = asyncio.create_task(reader.readline())
        try:
            async with asyncio.timeout(30):
                while not answered.done():
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
                line = await answered
                return line.split()[1].decode() if line else "cut"
        except TimeoutError:
            return "taken"
        except ConnectionError:  # by what was still on its way, and the answer with it
            return "cut"
        finally:
            answered.cancel()
            writer.close()

    return Counter(await asyncio.gather(*(push() for _ in range(count))))


async def unread_answers(port: int, count: int) -> Told:
    """Ask for files on `count` lines, read nothing of them, and go on with a head that does not end."""
    file = f"GET {LARGE_FILE} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {ABUSER}\r\n\r\n".encode()

    async def stare() -> str:
        line = await line_without_room(port)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(60):
                await loop.sock_sendall(line, file * 20 + b"GET / HTTP/1.1\r\nX: ")
                while True:
                    await loop.sock_sendall(line, b"x" * 2**16)
        except TimeoutError:
            return "held"
        except ConnectionError:
            return "cut"
        finally:
            line.close()

    return Counter(await asyncio.gather(*(stare() for _ in range(count))))


async def refused_handshakes(port: int, count: int) -> Told:
    """Ask for `count` sockets in ways that no server can grant, and hold on for as long as one is let."""
    begin = HANDSHAKE.removesuffix(b"\r\n")
    wrong = [
        begin + b"X: 1\r\n" * 130 + b"\r\n",
        begin + b"X: " + b"x" * 9_000 + b"\r\n\r\n",
        begin + b"Content-Length: 5\r\n\r\nhello",
        HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X"),
    ]
    return await answers_to(port, (wrong[n % len(wrong)] for n in range(count)))


async def plain_requests(port: int, count: int) -> Told:
    """Ask for as little as can be asked for, `count` times at once: what any crowd costs, to compare others with."""
    request = b"GET /healthz/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    return await answers_to(port, [request] * count)


async def close_without_reading(port: int, count: int) -> Told:
    """Open `count` sockets, say goodbye at once, and look only later at what has come."""

    async def leave() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOODBYE)
        await asyncio.sleep(2)
        try:
            async with asyncio.timeout(10):
                return str(await end_of(reader))
        except TimeoutError:
            return "held"
        finally:
            writer.close()

    return Counter(await asyncio.gather(*(leave() for _ in range(count))))


async def line_without_room(port: int) -> socket.socket:
    """A line on which nothing is read, and little fits."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
    return line


async def sign_ins(port: int, count: int) -> Told:
    """Try to sign in `count` times at once, from as many addresses."""
    body = json.dumps({"username": "nobody", "password": "a password of some length"}).encode()

    def request(number: int) -> bytes:
        head = ["POST /api/v1/auth/token HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        head += [f"X-Forwarded-For: 198.51.{100 + number // 250}.{number % 250}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, "Connection: close", "", ""]).encode() + body

    return await answers_to(port, map(request, range(count)))


async def answers_to(port: int, requests: Iterable[bytes]) -> Told:
    """`answer_to` each of them, at once."""
    return Counter(await asyncio.gather(*(answer_to(port, request) for request in requests)))


async def answer_to(port: int, request: bytes) -> str:
    """The status of the answer on a line of its own, once the server has closed it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(30):
            answer = await reader.read()
            return answer.split()[1].decode() if answer else "cut"
    except TimeoutError:
        return "held"
    except ConnectionError:
        return "cut"
    finally:
        writer.close()


async def end_of(reader: asyncio.StreamReader) -> int | str:
    """The code of the close frame that comes after any number of others."""
    try:
        while True:
            opcode, length = await reader.readexactly(2)
            if length >= 126:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8))
            payload = await reader.readexactly(length)
            if opcode == 0x88:
                return int.from_bytes(payload[:2])
    except (asyncio.IncompleteReadError, ConnectionError):
        return "cut"


Attack = Callable[[int, int], Coroutine[Any, Any, Told]]
ATTACKS: dict[str, tuple[Attack, int]] = {
    "half handshakes": (half_handshakes, 1000),
    "frames, 1,000 a second": (talk, 10_000),
    "sockets of one address": (crowd, 2000),
    "bodies of 60 MB": (large_bodies, 200),
    "endless bodies": (endless_bodies, 200),
    "answers that nobody reads": (unread_answers, 200),
    "plain requests": (plain_requests, 1000),
    "handshakes that cannot be": (refused_handshakes, 1000),
    "goodbyes without reading": (close_without_reading, 200),
    "sign-ins at once": (sign_ins, 200),
}


def run_attack(attack: Attack, port: int, count: int, told: Any) -> None:
    told.send(asyncio.run(attack(port, count)))


# Who watches


@dataclass
class Witness:
    """Somebody who has nothing to do with it."""

    url: str
    ws_url: str
    key: str
    delays: list[float] = field(default_factory=list)  # ms
    _seen: tuple[int, float] = (0, 0.0)  # the last frame's event, and when it came; nobody else scores
    _frame: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        async with connect(self.ws_url, additional_headers={"X-Forwarded-For": WITNESS}, proxy=None) as socket:
            async for frame in socket:
                self._seen = json.loads(frame)["seq"], time.monotonic()
                self._frame.set()

    async def score(self) -> None:
        headers = {"X-Forwarded-For": WITNESS}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False) as client:
            for n in range(sys.maxsize):
                bearer = {"Authorization": f"Bearer {token(f'witness {n % USERS}', self.key)}"}
                begun = time.monotonic()
                answer = await client.post("/api/v1/scores/increment", json={"points": 1}, headers=bearer)
                assert answer.status_code == 200, answer.text
                seq = int(answer.headers["X-Leaderboard-Seq"])
                while self._seen[0] < seq:
                    self._frame.clear()
                    await self._frame.wait()
                self.delays.append(1000 * (self._seen[1] - begun))
                await asyncio.sleep(max(0.0, begun + 0.1 - time.monotonic()))


async def suffer(name: str, attack: Attack, count: int, server: Server, key: str) -> Figures:
    witness = Witness(server.url, server.ws_url, key)
    watching = [asyncio.create_task(witness.watch()), asyncio.create_task(witness.score())]
    await asyncio.sleep(3)
    before, witness.delays = witness.delays, []
    memory = memory_of(server.process.pid)
    most, told = [], Told()
    for _ in range(TIMES):
        attacked = await attacked_from_elsewhere(attack, count, server, watching)
        most.append(attacked.memory_most)
        told += attacked.told

    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    return Figures(name, told, memory, most, slow_end(before), slow_end(witness.delays))


class Attacked(NamedTuple):
    told: Told
    memory_most: float  # MiB


async def attacked_from_elsewhere(
    attack: Attack, count: int, server: Server, watching: list[asyncio.Task[None]]
) -> Attacked:
    most = 0.0
    ours, theirs = multiprocessing.Pipe(duplex=False)
    abuser = multiprocessing.get_context("spawn").Process(target=run_attack, args=(attack, server.port, count, theirs))
    abuser.start()
    while not ours.poll():
        assert abuser.is_alive(), "the abusers stumbled"
        assert not any(task.done() for task in watching), [task for task in watching if task.done()]
        most = max(most, memory_of(server.process.pid))
        await asyncio.sleep(0.02)
    told = ours.recv()
    await asyncio.to_thread(abuser.join)
    await asyncio.sleep(2)  # what the server lets linger is gone by then
    return Attacked(told, most)


def slow_end(delays: list[float]) -> float:
    return statistics.quantiles(delays, n=20)[-1]


def memory_of(process: int) -> float:
    """MiB that are its own right now."""
    resident = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return resident * resource.getpagesize() / 2**20


@contextmanager
def limited_service(folder: Path) -> Iterator[Service]:
    with service(folder, LIMITS) as limited:
        yield limited


def main() -> int:
    parser = argparse.ArgumentParser(prog="make abuse", description=__doc__)
    parser.add_argument("--only", default="", help="abuses whose name contains this")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    table = Table("abuse", "how many", "what became of it", "memory, MiB", "others' delay, ms")
    with tempfile.TemporaryDirectory(prefix="abuse-") as folder, limited_service(Path(folder)) as limited:
        for name, (attack, count) in ATTACKS.items():
            if options.only in name:
                figures = asyncio.run(suffer(name, attack, count, limited.server, limited.signing_key))
                table.add_row(*row(figures, count))
    console = Console()
    if not console.is_terminal:
        console.width = 150
    console.print(table)
    return 0


def row(figures: Figures, count: int) -> list[str]:
    told = ", ".join(f"{times} {what}" for what, times in figures.told.most_common() if what != "frames")
    return [
        figures.name,
        f"{TIMES} × {count:,}",
        told,
        " → ".join(f"{memory:.0f}" for memory in (figures.memory_before, *figures.memory_most)),
        f"{figures.delay_before:.0f} → {figures.delay_during:.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
