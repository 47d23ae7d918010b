"""While Redis is away in any way, nobody at a socket, a read or an increment has to know; when it is back, all are on it.

While the database is away, what is in Redis is read and shown, and says how old it is.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.polling import until
from tools.chaos.load import token
from tools.chaos.proxy import Mood
from tools.chaos.world import Service, service
from tools.manage import apply_boards

pytestmark = pytest.mark.slow

Ways = dict[str, tuple[Callable[[Service], None], Callable[[Service], None]]]


def mood(mood: Mood) -> tuple[Callable[[Service], None], Callable[[Service], None]]:
    return lambda hurt: hurt.proxy.be(mood), lambda hurt: hurt.proxy.be(Mood.PASSING)


def kill(hurt: Service) -> None:
    hurt.redis.kill()


AWAY: Ways = {
    "it refuses": mood(Mood.REFUSING),
    "it is silent": mood(Mood.SILENT),
    "it is slow": mood(Mood.SLOW),
    "it stands still": (lambda hurt: hurt.redis.freeze(), lambda hurt: hurt.redis.thaw()),
    "it is gone": (kill, lambda hurt: hurt.redis.boot()),
}


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("away")) as hurt:
        yield hurt


def post(hurt: Service, user_id: str, points: int) -> int:
    """Score, and return the total."""
    headers = {"Authorization": f"Bearer {token(user_id, hurt.signing_key)}"}
    url = f"{hurt.server.url}/api/v1/scores/increment"
    answer = httpx.post(url, json={"points": points}, headers=headers, verify=False, timeout=30)
    assert answer.status_code == 200, answer.text
    total: int = answer.json()["newScore"]
    return total


def source(hurt: Service) -> str:
    answer = httpx.get(f"{hurt.server.url}/api/v1/leaderboard", verify=False, timeout=30)
    return answer.headers["X-Leaderboard-Source"]


def shows(socket: ClientConnection, user_id: str, score: int) -> bool:
    """Whether a frame with this score comes before the patience ends."""
    while True:
        entries = json.loads(socket.recv(timeout=30))["leaderboard"]
        if (user_id, score) in [(entry["userId"], entry["score"]) for entry in entries]:
            return True


@pytest.mark.parametrize("way", AWAY)
def test_all_goes_on_without_redis_and_comes_back_to_it(way: str, hurt: Service) -> None:
    leaves, returns = AWAY[way]
    until(lambda: source(hurt) == "redis")
    with connect(hurt.server.ws_url) as open_since_before:
        leaves(hurt)
        try:
            total = post(hurt, "ann", 10)

            assert shows(open_since_before, "ann", total)
            until(lambda: source(hurt) == "database")
            with connect(hurt.server.ws_url) as opened_meanwhile:
                assert shows(opened_meanwhile, "ann", total)
        finally:
            returns(hurt)
        until(lambda: source(hurt) == "redis")
        total = post(hurt, "ann", 1)

        assert shows(open_since_before, "ann", total)
        until(lambda: hurt.redis.client.zscore("leaderboard", "ann") == total)


def test_while_both_stores_are_silent_the_board_is_asked_for_once(hurt: Service) -> None:
    until(lambda: source(hurt) == "redis")
    answered: list[str] = []

    def answer(name: str, connection: http.client.HTTPConnection) -> int:
        status = connection.getresponse().status
        answered.append(name)
        return status

    hurt.redis.freeze()
    hurt.postgresql.freeze()
    try:
        with ThreadPoolExecutor() as pool:
            user, user_again, board = (http.client.HTTPConnection("127.0.0.1", hurt.server.port) for _ in range(3))
            user.request("GET", "/api/v1/users/ann")
            assert hurt.server.answers()  # so that the board comes second
            board.request("GET", "/api/v1/leaderboard")
            shown = pool.submit(answer, "board", board)
            statuses = [answer("user", user)]
            user_again.request("GET", "/api/v1/users/ann")
            statuses += [answer("user again", user_again), shown.result()]
    finally:
        hurt.postgresql.thaw()
        hurt.redis.thaw()
        for connection in (user, user_again, board):
            connection.close()

    assert statuses == [503, 503, 503]
    assert answered.index("board") < answered.index("user again")


AWAY_FROM_DATABASE: Ways = {
    "it stands still": (lambda hurt: hurt.postgresql.freeze(), lambda hurt: hurt.postgresql.thaw()),
    "it is gone": (lambda hurt: kill_all(hurt), lambda hurt: hurt.postgresql.boot()),
}


def kill_all(hurt: Service) -> None:
    """The sessions too, which otherwise answer until they notice that the postmaster is gone."""
    for pid in hurt.postgresql._processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def make_board(hurt: Service, folder: Path) -> None:
    apply_boards(hurt.server.env, folder, '[boards.ever]\nfold = "sum"\nperiod = "daily"\n')


def of_board(hurt: Service, rest: str = "") -> httpx.Response:
    return httpx.get(f"{hurt.server.url}/api/v1/boards/ever{rest}", verify=False, timeout=30)


@pytest.mark.parametrize("way", AWAY_FROM_DATABASE)
def test_a_board_is_read_and_shown_without_the_database(way: str, hurt: Service, tmp_path: Path) -> None:
    leaves, returns = AWAY_FROM_DATABASE[way]
    make_board(hurt, tmp_path)
    total = post(hurt, "ann", 10)
    until(lambda: [e["userId"] for e in of_board(hurt).json().get("leaderboard", [])] == ["ann"])
    until(lambda: of_board(hurt).headers.get("X-Leaderboard-Source") == "redis")
    with connect(hurt.server.ws_url.replace("/ws/leaderboard/", "/ws/boards/ever/")) as open_since_before:
        leaves(hurt)
        try:
            with ThreadPoolExecutor() as pool:
                # What only the database knows must keep nobody from what Redis has.
                past = [pool.submit(of_board, hurt, rest) for rest in ("?period=2026-01-01", "/periods", "/results")]
                refused, ages = 0, [0.0]
                while ages[-1] < 4:
                    for rest in ("", "/users/ann"):
                        answer = of_board(hurt, rest)
                        if (
                            answer.status_code == 503
                        ):  # Redis was too slow, on a busy machine: its proxy is this process
                            refused += 1
                        else:
                            assert answer.headers["X-Leaderboard-Source"] == "redis", answer.text
                            ages.append(float(answer.headers["X-Leaderboard-Age"]))
                assert refused < len(ages)
                assert [each.result().json()["code"] for each in past] == ["unavailable"] * 3
            with connect(hurt.server.ws_url.replace("/ws/leaderboard/", "/ws/boards/ever/")) as opened_meanwhile:
                assert json.loads(opened_meanwhile.recv(timeout=30))["age"] > 0
            until(lambda: "age" in json.loads(open_since_before.recv(timeout=30)))
        finally:
            returns(hurt)
        until(lambda: float(of_board(hurt).headers.get("X-Leaderboard-Age", 9)) < 2)
        until(lambda: hurt.server.answers())

        assert post(hurt, "ann", 1) == total + 1
        assert shows(open_since_before, "ann", total + 1)


def test_a_board_says_so_while_both_stores_are_away(hurt: Service, tmp_path: Path) -> None:
    make_board(hurt, tmp_path)
    until(lambda: of_board(hurt).headers.get("X-Leaderboard-Source") == "redis")
    hurt.redis.kill()
    hurt.postgresql.freeze()
    try:
        answer = of_board(hurt)
    finally:
        hurt.postgresql.thaw()
        hurt.redis.boot()

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"]
    until(lambda: of_board(hurt).headers.get("X-Leaderboard-Source") == "redis")
