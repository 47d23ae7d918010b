"""While Redis is away in any way, nobody at a socket, a read or an increment has to know; when it is back, all are on it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.polling import until
from tools.chaos.load import token
from tools.chaos.proxy import Mood
from tools.chaos.world import Service, service

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
    answer = httpx.post(
        f"{hurt.server.url}/api/v1/scores/increment", json={"points": points}, headers=headers, verify=False
    )
    assert answer.status_code == 200, answer.text
    total: int = answer.json()["newScore"]
    return total


def source(hurt: Service) -> str:
    return httpx.get(f"{hurt.server.url}/api/v1/leaderboard", verify=False).headers["X-Leaderboard-Source"]


def shows(socket: ClientConnection, user_id: str, score: int) -> bool:
    """Whether a frame with this score comes before the patience ends."""
    while True:
        if {"userId": user_id, "score": score} in json.loads(socket.recv(timeout=30))["leaderboard"]:
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
