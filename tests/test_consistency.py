"""Many clients at once: every store, every answer and every frame tell of the same sequence of events."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect

from scores.models import ScoreEvent, UserScore
from tools.servers import Server

from .conftest import TokenFor

pytestmark = pytest.mark.slow

CLIENTS = 32
INCREMENTS = 20_000
USERS = 40  # fewer than twice the clients: most users are written by two clients at once, and one by all of them


class Answer(NamedTuple):
    user_id: str
    points: int
    new_score: int


def post_increments(port: int, tokens: dict[str, str], client: int) -> list[Answer]:
    """One client's share, one after the other on one connection."""
    chance = random.Random(client)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answers = []
    for number in range(INCREMENTS // CLIENTS):
        user = chance.choice([f"user{client}", f"user{(client + 1) % USERS}", "everybody's"])
        points = chance.randint(1, 1000)
        headers = {"Authorization": f"Bearer {tokens[user]}", "Content-Type": "application/json"}
        headers["Idempotency-Key"] = f"{client}-{number}"
        while True:
            connection.request("POST", "/api/v1/scores/increment", json.dumps({"points": points}), headers)
            response = connection.getresponse()
            body = json.load(response)
            if response.status != 503:  # on a machine that stood still for a while: asked again, it counts once
                break
        assert (response.status, body.keys()) == (200, {"success", "newScore"}), body
        answers.append(Answer(user, points, body["newScore"]))
    connection.close()
    return answers


async def frames_until_quiet(socket: ClientConnection, last: int) -> list[dict[str, Any]]:
    """All frames up to the one that shows event `last`, which the heartbeat repeats if its top 10 was shown before."""
    frames: list[dict[str, Any]] = []
    async with asyncio.timeout(120):
        while not frames or frames[-1]["seq"] < last:
            frames.append(json.loads(await socket.recv()))
    return frames


def top_10_after(events: list[ScoreEvent]) -> dict[int, list[dict[str, Any]]]:
    """The top 10 after each event, from nothing but the log."""
    totals: dict[str, int] = {}
    tops: dict[int, list[dict[str, Any]]] = {0: []}
    for event in events:
        totals[event.user_id] = event.total
        best = sorted(totals.items(), key=lambda item: (item[1], item[0].encode()), reverse=True)[:10]
        tops[event.seq] = [{"userId": user_id, "score": score} for user_id, score in best]
    return tops


@pytest.fixture
def two_workers(server: Server, tmp_path: Path) -> Any:
    env = {"WORKERS": "2", "DATABASE_URL": server.env["DATABASE_URL"]}
    workers = Server(log=tmp_path / "log", env=env).start()
    yield workers
    workers.stop()


def test_20_000_increments_by_32_clients_add_up_everywhere(
    two_workers: Server, redis: Redis, token_for: TokenFor
) -> None:
    tokens = {user: token_for(user) for user in [*(f"user{number}" for number in range(USERS)), "everybody's"]}

    answers, frames_of_sockets = asyncio.run(post_and_watch(two_workers, tokens))

    stores_agree(answers, redis)
    tops = top_10_after(list(ScoreEvent.objects.order_by("seq")))
    for frames in frames_of_sockets:
        assert all(earlier["seq"] <= later["seq"] for earlier, later in pairwise(frames))
        assert [frame for frame in frames if frame["leaderboard"] != tops[frame["seq"]]] == []
        assert frames[-1]["leaderboard"] == tops[INCREMENTS]


async def post_and_watch(server: Server, tokens: dict[str, str]) -> tuple[list[Answer], list[list[dict[str, Any]]]]:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(server.ws_url, max_queue=None)) for _ in range(6)]
        watching = [asyncio.create_task(frames_until_quiet(socket, INCREMENTS)) for socket in sockets]
        with ThreadPoolExecutor(CLIENTS) as threads:
            loop = asyncio.get_running_loop()
            shares = await asyncio.gather(
                *(loop.run_in_executor(threads, post_increments, server.port, tokens, c) for c in range(CLIENTS))
            )
        return [answer for share in shares for answer in share], list(await asyncio.gather(*watching))


def stores_agree(answers: list[Answer], redis: Redis) -> None:
    events = list(ScoreEvent.objects.order_by("seq"))
    assert [event.seq for event in events] == list(range(1, INCREMENTS + 1))

    # Each caller's total is one that the user really had, with that caller's points, and nobody else was told the same.
    told = Counter(answers)
    assert max(told.values()) == 1
    assert told == Counter(Answer(event.user_id, event.points, event.total) for event in events)

    points_of: dict[str, list[int]] = defaultdict(list)
    totals_of: dict[str, list[int]] = defaultdict(list)
    for event in events:
        points_of[event.user_id].append(event.points)
        totals_of[event.user_id].append(event.total)
    assert {user: list(accumulate(points)) for user, points in points_of.items()} == totals_of

    table = dict(UserScore.objects.values_list("user_id", "score"))
    assert table == {user: sum(points) for user, points in points_of.items()}
    assert sum(table.values()) == sum(answer.points for answer in answers)
    copy: Any = redis.zrange("leaderboard", 0, -1, withscores=True)
    assert {member.decode(): int(score) for member, score in copy} == table
    seq: Any = redis.hget("leaderboard:state", "seq")
    assert int(seq) == INCREMENTS
