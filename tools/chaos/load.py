"""Clients of every kind, and what each was told: increments at a steady rate, reads, and sockets."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, NamedTuple

import jwt
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tools.servers import Server

USERS = [f"user{number}" for number in range(60)]
CROWD = [f"crowd{number}" for number in range(1_100)]  # who scored once: a board longer than anybody looks
RATE = 200  # increments per second, of all clients together
CLIENTS = 8
PATIENCE_S = 5.0
UNKEYED = 0.1  # the share of increments without an Idempotency-Key

Outcome = Literal["acknowledged", "refused", "unknown"]


class Operation(NamedTuple):
    """One increment and what its client knows of it. `total` is `newScore`, of an acknowledged one."""

    user_id: str
    points: int
    key: str | None
    outcome: Outcome
    total: int | None = None


class Sight(NamedTuple):
    """A board that somebody was shown, and the event it claimed to be the state after."""

    epoch: str
    seq: int
    board: list[tuple[str, int]]
    limit: int  # entries that it had room for


@dataclass
class Connection:
    """What one socket showed, in order."""

    frames: list[Sight] = field(default_factory=list)
    judged: int = 0  # of these, so many


@dataclass
class Told:
    """Everything that anybody was told."""

    operations: list[Operation] = field(default_factory=list)
    reads: list[Sight] = field(default_factory=list)
    sockets: list[Connection] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)  # answers that should never be given
    slowest_s: float = 0.0  # answer to an increment, of whatever kind
    silence_s: float = 0.0  # longest that nobody at a socket saw a change, while there were some
    cuts: int = 0  # sockets that ended before their client did


class Load:
    """Threads that go on through any fault, until `stop`."""

    def __init__(self, server: Server, signing_key: str) -> None:
        self.server = server
        self.told = Told()
        self._signing_key = signing_key
        self._tokens = {user: token(user, signing_key) for user in USERS + CROWD}
        self._keys = count()
        self._running = threading.Event()  # the increments; reads and sockets always go on
        self._ended = threading.Event()
        self._idle = threading.Semaphore(CLIENTS)
        self._threads = [threading.Thread(target=self._increment, args=(number,)) for number in range(CLIENTS)]
        self._threads += [threading.Thread(target=self._read), threading.Thread(target=self._watch)]

    def start(self) -> None:
        with ThreadPoolExecutor(CLIENTS) as threads:
            self.told.operations += [op for done in threads.map(self._fill, range(CLIENTS)) for op in done]
        self._running.set()
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """Return when no increment is under way."""
        self._running.clear()
        for _ in range(CLIENTS):
            self._idle.acquire()
        for _ in range(CLIENTS):
            self._idle.release()

    def resume(self) -> None:
        self._running.set()

    def stop(self) -> None:
        self._ended.set()
        self._running.set()
        for thread in self._threads:
            thread.join()

    def add_newcomer(self) -> None:
        """One increment of somebody who was not on the board."""
        user_id = f"newcomer{next(self._keys)}"
        self._tokens[user_id] = token(user_id, self._signing_key)
        with closing(Client(self.server)) as client:
            self.told.operations.append(self._post(client, user_id, 1, None))

    def retry(self, operation: Operation) -> Operation:
        """The same increment again with its key, until its fate is known."""
        until = time.monotonic() + 30
        with closing(Client(self.server)) as client:
            while time.monotonic() < until:
                again = self._post(client, operation.user_id, operation.points, operation.key)
                if again.outcome == "acknowledged":
                    return again
                time.sleep(0.1)
        raise AssertionError(f"a retry was not acknowledged within 30 s: {operation}")

    def _fill(self, number: int) -> list[Operation]:
        with closing(Client(self.server)) as client:
            return [
                self._post(client, user_id, 1 + place, None)
                for place, user_id in list(enumerate(CROWD))[number::CLIENTS]
            ]

    def _increment(self, number: int) -> None:
        chance = random.Random(number)
        client = Client(self.server)
        while not self._ended.is_set():
            self._running.wait()
            with self._idle:
                if not self._running.is_set():
                    continue
                key = None if chance.random() < UNKEYED else f"key-{next(self._keys)}"
                done = self._post(client, chance.choice(USERS), chance.randint(1, 100), key)
                self.told.operations.append(done)
            time.sleep(chance.uniform(0, 2) * CLIENTS / RATE)
        client.close()

    def _post(self, client: Client, user_id: str, points: int, key: str | None) -> Operation:
        headers = {"Authorization": f"Bearer {self._tokens[user_id]}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        started = time.monotonic()
        status, body = client.ask("POST", "/api/v1/scores/increment", json.dumps({"points": points}), headers)
        if status:
            self.told.slowest_s = max(self.told.slowest_s, time.monotonic() - started)
        if status == 200:
            return Operation(user_id, points, key, "acknowledged", body["newScore"])
        if status == 0 or (status == 503 and body["code"] == "overloaded"):
            return Operation(user_id, points, key, "refused")
        if status not in (None, 503):
            self.told.mistakes.append(f"an increment was answered {status}: {body}")
        return Operation(user_id, points, key, "unknown")

    def _read(self) -> None:
        client = Client(self.server)
        while not self._ended.wait(0.05):
            status, body = client.ask("GET", "/api/v1/leaderboard?limit=100")
            if status == 200:
                epoch = client.header("ETag").strip('"').removeprefix("leaderboard-").rsplit("-", 4)[0]
                board = [(entry["userId"], entry["score"]) for entry in body["leaderboard"]]
                self.told.reads.append(Sight(epoch, body["seq"], board, 100))
            elif status not in (None, 0, 503):
                self.told.mistakes.append(f"a read was answered {status}: {body}")
        client.close()

    def _watch(self) -> None:
        seen_at = time.monotonic()
        while not self._ended.is_set():
            connection = Connection()
            self.told.sockets.append(connection)
            try:
                with connect(self.server.ws_url, open_timeout=PATIENCE_S) as socket:
                    while not self._ended.is_set():
                        try:
                            frame: dict[str, Any] = json.loads(socket.recv(timeout=0.2))
                        except TimeoutError:
                            if not self._running.is_set():
                                seen_at = time.monotonic()
                            continue
                        board = [(entry["userId"], entry["score"]) for entry in frame["leaderboard"]]
                        connection.frames.append(Sight(frame["epoch"], frame["seq"], board, 10))
                        if self._running.is_set():
                            self.told.silence_s = max(self.told.silence_s, time.monotonic() - seen_at)
                        seen_at = time.monotonic()
            except (OSError, WebSocketException):
                self.told.cuts += bool(connection.frames)
                time.sleep(0.05)


class Client:
    """One kept connection, made again after a failure."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)

    def ask(self, method: str, path: str, body: str | None = None, headers: Any = None) -> tuple[int | None, Any]:
        """Status and body; 0 when nobody was there to ask, `None` when the answer did not arrive."""
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except OSError:
            self._connection.close()
            return 0, None
        try:
            self._connection.request(method, path, body, headers or {})
            self.response = self._connection.getresponse()
            return self.response.status, json.loads(self.response.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return None, None

    def close(self) -> None:
        self._connection.close()

    def header(self, name: str) -> str:
        return self.response.getheader(name) or ""


def token(user_id: str, signing_key: str, **more: str) -> str:
    claims = {"token_type": "access", "user_id": user_id, "jti": user_id, "exp": int(time.time()) + 7200, **more}
    return jwt.encode(claims, signing_key, "HS256")
