"""Three boards over the night in which Berlin's clocks go back, as their users see it.

The clock is the log's own, which tests may set: it is ahead of all others here, so nothing but this test moves it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from django.db import connection
from redis import Redis
from websockets.sync.client import ClientConnection, connect

from scores.boards.closing import Closer
from scores.log.head import log
from scores.log.writer import writer
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.conftest import stopped
from tools.servers import Server

EVENING = datetime(2027, 10, 30, 20, 0, tzinfo=UTC)  # 22:00 in Berlin
MIDNIGHT = datetime(2027, 10, 30, 22, 0, tzinfo=UTC)
NEXT_MIDNIGHT = datetime(2027, 10, 31, 23, 0, tzinfo=UTC)  # 25 hours later
STUDIO = "boards:manage events:void scores:write:any"


class Game:
    """What players, the studio and its game server do."""

    def __init__(self, api: httpx.Client, token_for: TokenFor) -> None:
        self.api = api
        self._token_for = token_for

    def _headers(self, user_id: str, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token_for(user_id, **claims)}"}

    def studio(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.api.request(method, path, json=body, headers=self._headers("studio", scope=STUDIO))
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def add(self, user_id: str, points: int) -> str:
        answer = self.api.post("/scores/increment", json={"points": points}, headers=self._headers(user_id))
        assert answer.status_code == 200, answer.text
        return answer.headers["X-Leaderboard-Seq"]

    def lap(self, user_id: str, score: int) -> str:
        body = {"score": score, "metadata": {"car": user_id}}
        answer = self.api.post("/boards/laps/scores", json=body, headers=self._headers(user_id))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["eventId"])

    def board(self, name: str, **asked: Any) -> Any:
        answer = self.api.get(f"/boards/{name}", params=asked)
        return answer.json() | {"source": answer.headers.get("X-Leaderboard-Source")}

    def rows(self, name: str, **asked: Any) -> list[tuple[str, int]]:
        return [(row["userId"], row["score"]) for row in self.board(name, **asked).get("leaderboard", [])]


@pytest.fixture
def game(server: Server, token_for: TokenFor) -> Iterator[Game]:
    with httpx.Client(base_url=f"{server.url}/api/v1", verify=False, timeout=30) as client:
        yield Game(client, token_for)


def it_is(moment: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE leaderboards SET at = %s", [moment])


def frame_of(socket: ClientConnection, wanted: Callable[[Any], bool]) -> Any:
    """The first frame for which that is true; seq never goes back on the way."""
    seq = 0
    while True:
        frame = json.loads(socket.recv(timeout=30))
        assert frame["seq"] >= seq
        seq = frame["seq"]
        if wanted(frame):
            return frame


@pytest.mark.slow
def test_a_night_of_three_boards(game: Game, server: Server, redis: Redis) -> None:
    game.add("ann", 100)  # yesterday, as far as these boards are concerned
    it_is(EVENING)
    today = {"name": "today", "fold": "sum", "period": "daily", "zone": "Europe/Berlin"}
    game.studio("POST", "/boards", today | {"rewards": {"1": 100}, "settleSeconds": 600})
    game.studio("POST", "/boards", {"name": "ever", "fold": "sum", "ties": "id"})
    game.studio("POST", "/boards", {"name": "laps", "fold": "best", "order": "lower", "stream": True})

    # The evening: points of two players count on two boards, laps on theirs, and on nobody else's.
    game.add("bob", 30)
    game.add("ann", 20)
    game.lap("cid", 90_000)
    best = game.lap("dan", 80_000)
    until(lambda: game.rows("today") == [("bob", 30), ("ann", 20)])
    until(lambda: game.rows("ever") == [("ann", 120), ("bob", 30)])
    until(lambda: game.rows("laps") == [("dan", 80_000), ("cid", 90_000)])
    assert game.rows("leaderboard") == [("ann", 120), ("bob", 30)]

    with connect(f"{server.ws_url.partition('/ws/')[0]}/ws/boards/today/") as socket:
        first = frame_of(socket, lambda frame: len(frame["leaderboard"]) == 2)
        assert (first["startsAt"], first["endsAt"]) == ("2027-10-29T22:00:00Z", "2027-10-30T22:00:00Z")

        # Midnight, and nobody scores: the new day is there, empty, and lasts 25 hours.
        it_is(MIDNIGHT)
        empty = frame_of(socket, lambda frame: frame["period"] != first["period"])
        assert (empty["leaderboard"], empty["startsAt"]) == ([], "2027-10-30T22:00:00Z")
        assert empty["endsAt"] == "2027-10-31T23:00:00Z"

        # Redis dies in the middle: boards are read all the same, and live again when it is back.
        it_is(MIDNIGHT + timedelta(hours=3))  # the second 02:00 of that night
        with stopped(redis):
            game.add("bob", 1)
            until(lambda: game.rows("today") == [("bob", 1)])
            assert game.board("today")["source"] == "database"
        redis.flushall()
        game.add("ann", 1)
        frame_of(socket, lambda frame: [row["userId"] for row in frame["leaderboard"]] == ["bob", "ann"])
    until(lambda: game.board("today")["source"] == "redis")
    assert game.rows("today") == [("bob", 1), ("ann", 1)]
    assert game.rows("today", period="previous") == [("bob", 30), ("ann", 20)]
    assert game.rows("today", period="2027-10-30") == [("bob", 30), ("ann", 20)]

    # Yesterday has closed meanwhile: its winner has the reward, once, also if somebody closes it again.
    until(lambda: game.api.get("/boards/today/results").status_code == 200)
    results = [{"place": 1, "userId": "bob", "score": 30, "reward": 100}, {"place": 2, "userId": "ann", "score": 20}]
    assert game.api.get("/boards/today/results").json()["results"] == results
    until(lambda: game.rows("ever") == [("bob", 131), ("ann", 121)])
    for _ in range(2):
        closer = Closer(log, writer)
        assert not closer.close()
    assert game.rows("today") == [("bob", 1), ("ann", 1)]  # which does not count its own reward
    assert game.rows("leaderboard") == [("bob", 131), ("ann", 121)]

    # The leader of the laps cheated.
    game.studio("POST", f"/events/{best}/void", {"reason": "a shortcut"})
    until(lambda: game.rows("laps") == [("cid", 90_000)])
    void = game.add("bob", 50)
    game.studio("POST", f"/events/{void}/void")
    until(lambda: game.rows("ever") == [("bob", 131), ("ann", 121)])

    # The long day ends.
    it_is(NEXT_MIDNIGHT - timedelta(seconds=1))
    game.add("cid", 5)
    it_is(NEXT_MIDNIGHT)
    game.add("dan", 6)
    until(lambda: game.rows("today") == [("dan", 6)])
    assert game.rows("today", period="previous") == [("cid", 5), ("ann", 1), ("bob", 1)]  # bob's 1 is newer
    periods = game.api.get("/boards/today/periods").json()["periods"]
    assert [period["isCurrent"] for period in periods[:3]] == [True, False, False]
