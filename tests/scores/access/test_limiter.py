"""How many are let through: exactly the limit, whoever asks, however many ask at once, wherever they claim to be."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import settings as without_deadline
from hypothesis import strategies as st
from limits import RateLimitItemPerHour, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.crc import key_slot

from scores.access import limiter
from scores.access.client_address import rate_limit_key
from scores.access.sliding_window import Hit, ProcessCounters, Window, count_in_redis, redis_keys
from tests.conftest import TokenFor
from tools.servers import Server

pytestmark = pytest.mark.slow

PER_MINUTE = RateLimitItemPerMinute(20)
LIMITS = {
    "RATE_LIMIT": "20/minute",
    "READ_RATE_LIMIT": "25/minute",
    "TOKEN_RATE_LIMIT": "5/minute",
    "HANDSHAKE_RATE_LIMIT": "off",
}


@pytest.fixture(scope="module")
def _limited(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "WORKERS": "2"} | LIMITS
    limited = Server(log=tmp_path_factory.mktemp("limited") / "log", env=env).start()
    yield limited
    limited.stop()


@pytest.fixture
def limited(_limited: Server, board: None) -> Server:
    """Two workers with limits, of which nothing is used up. They are not told of the empty board, which does not matter here."""
    return _limited


@pytest.fixture(scope="module")
def alone(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with limits and without a Redis."""
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "REDIS_URL": "redis://127.0.0.1:1/0"} | LIMITS
    alone = Server(log=tmp_path_factory.mktemp("alone") / "log", env=env).start()
    yield alone
    alone.stop()


def at_once(server: Server, method: str, path: str, *, times: int, **kwargs: Any) -> list[httpx.Response]:
    """The answers to the same request from 40 threads, each on connections of its own."""

    def ask(_: int) -> httpx.Response:
        return httpx.request(method, server.url + path, timeout=30, verify=False, **kwargs)

    with ThreadPoolExecutor(40) as threads:
        return list(threads.map(ask, range(times)))


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Over HTTP


def test_of_forty_threads_exactly_the_limit_gets_through(limited: Server, token_for: TokenFor) -> None:
    headers = bearer(token_for("ann"))

    answers = at_once(limited, "POST", "/api/v1/scores/increment", times=200, json={"points": 1}, headers=headers)

    assert statuses(answers) == {200: 20, 429: 180}
    assert max(answer.json().get("newScore", 0) for answer in answers) == 20


def test_the_limit_of_increments_is_each_users_own(limited: Server, token_for: TokenFor) -> None:
    for user in ("ann", "bob"):
        headers = bearer(token_for(user))
        answers = at_once(limited, "POST", "/api/v1/scores/increment", times=25, json={"points": 1}, headers=headers)

        assert statuses(answers) == {200: 20, 429: 5}


@pytest.mark.parametrize("path", ["/api/v1/leaderboard", "/api/v1/users/nobody"])
def test_reads_are_limited_by_address(path: str, limited: Server) -> None:
    answers = at_once(limited, "GET", path, times=60)

    assert statuses(answers)[429] == 35


def test_requests_for_tokens_are_limited_together(limited: Server) -> None:
    wrong = {"username": "ann", "password": "wrong", "refresh": "wrong"}

    answers = [
        httpx.post(f"{limited.url}/api/v1/auth/{kind}", json=wrong, timeout=30, verify=False)
        for kind in ("token", "refresh", "logout", "register", "token", "token", "refresh", "logout", "register")
    ]

    assert [answer.status_code == 429 for answer in answers] == [False] * 5 + [True] * 4


def test_a_forged_address_changes_nothing(limited: Server) -> None:
    forged = [{"X-Forwarded-For": f"192.0.2.{n}", "X-Real-IP": f"192.0.2.{n}"} for n in range(30)]

    answers = [httpx.get(f"{limited.url}/api/v1/leaderboard", headers=headers, verify=False) for headers in forged]

    assert statuses(answers)[429] == 5


def test_a_refusal_says_why_and_for_how_long(limited: Server) -> None:
    answers = at_once(limited, "GET", "/api/v1/leaderboard", times=26)

    (refused,) = [answer for answer in answers if answer.status_code == 429]
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 61
    assert refused.headers["RateLimit-Policy"] == '"reads";q=25;w=60'
    assert refused.headers["RateLimit"] == f'"reads";r=0;t={refused.headers["Retry-After"]}'


def test_an_answer_says_how_much_is_left(limited: Server) -> None:
    answers = [httpx.get(f"{limited.url}/api/v1/leaderboard", verify=False) for _ in range(3)]

    assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in answers] == [
        f'"reads";r={left}' for left in (24, 23, 22)
    ]


def test_without_limits_no_header_speaks_of_them(server: Server) -> None:
    assert "RateLimit" not in httpx.get(f"{server.url}/api/v1/leaderboard", verify=False).headers


def test_while_redis_is_away_a_process_counts_for_itself(alone: Server, token_for: TokenFor) -> None:
    body, headers = {"points": 1}, bearer(token_for("ann"))

    increments = at_once(alone, "POST", "/api/v1/scores/increment", times=60, json=body, headers=headers)
    wrong = {"username": "ann", "password": "wrong"}
    sign_ins = [httpx.post(f"{alone.url}/api/v1/auth/token", json=wrong, timeout=30, verify=False) for _ in range(11)]

    assert statuses(increments) == {200: 20, 429: 40}
    assert statuses(sign_ins) == {401: 5, 429: 6}


# The counting


def test_a_round_trip_counts_for_everyone_in_it(board: None) -> None:
    hits = [Hit("test", who, PER_MINUTE) for who in ("ann", "bob") * 30]

    verdicts = limiter.judge(hits)

    assert [v.admitted for v in verdicts] == [True] * 40 + [False] * 20
    assert [v.remaining for v in verdicts[:40]] == [19 - n // 2 for n in range(40)]


def test_a_new_redis_is_told_the_script_again(redis: Any) -> None:
    limiter.judge([Hit("test", "ann", PER_MINUTE)])
    redis.script_flush()

    (verdict,) = limiter.judge([Hit("test", "ann", PER_MINUTE)])

    assert verdict.remaining == 18


@pytest.mark.usefixtures("forgetful")
def test_while_redis_forgets_the_script_again_and_again_each_hit_counts_once(redis: Any) -> None:
    """Batches of more than the 16 KiB that Redis reads at once, so that some of one batch find the script and some do not."""
    ann = Hit("test", "ann", RateLimitItemPerMinute(1_000_000))

    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(count_in_redis, [[ann] * 256] * 40))
    admitted = sum(counted.admitted for batch in batches for counted in batch)

    _, current = redis_keys(ann)
    assert admitted == 40 * 256 == int(redis.get(current))


def test_a_worker_before_the_upgrade_and_one_after_it_count_together(redis: Any) -> None:
    """The library `limits` counted before, with its own script and these keys."""
    before = SlidingWindowCounterRateLimiter(RedisStorage(settings.REDIS_URL, key_prefix="leaderboard:limits"))

    admitted = [
        admits
        for _ in range(15)
        for admits in (
            before.hit(PER_MINUTE, "test", "ann"),
            limiter.judge([Hit("test", "ann", PER_MINUTE)])[0].admitted,
        )
    ]

    assert admitted == [True] * 20 + [False] * 10


def test_both_counters_are_in_one_slot_of_a_cluster_and_go_away_by_themselves(redis: Any) -> None:
    ann = Hit("test", "a}n{n", PER_MINUTE)
    previous, current = redis_keys(ann)
    redis.set(current, 20, px=30_000)  # by its time to live, of the window before

    limiter.judge([ann])

    assert sorted(redis.keys("leaderboard:limits*")) == [current.encode(), previous.encode()]
    assert key_slot(previous.encode()) == key_slot(current.encode())
    assert 10_000 < redis.pttl(previous) <= 30_000
    assert 70_000 < redis.pttl(current) <= 90_000


def test_the_previous_window_fades(redis: Any) -> None:
    ann = Hit("test", "ann", RateLimitItemPerHour(20))
    redis.set(redis_keys(ann)[1], 20, px=1_794_000)

    verdicts = limiter.judge([ann] * 20)

    # floor(20 * 1794 / 3600) is 9, and stays so for almost three minutes.
    assert [v.admitted for v in verdicts] == [True] * 11 + [False] * 9
    assert [v.remaining for v in verdicts] == [*range(10, -1, -1)] + [0] * 9


def test_a_counter_without_an_end_does_not_count(redis: Any) -> None:
    """Nothing here makes one, but a hand at the console could, and the user would be refused for ever."""
    ann = Hit("test", "ann", PER_MINUTE)
    for key in redis_keys(ann):
        redis.set(key, 1_000)

    assert limiter.judge([ann])[0].remaining == 19
    assert 0 < redis.ttl(redis_keys(ann)[1]) <= 120


def test_a_process_counts_as_redis_does(board: None) -> None:
    rate = RateLimitItemPerSecond(5)
    hits = [Hit("test", who, rate) for who in ("ann", "bob") * 8]
    counters = ProcessCounters()

    def told() -> list[tuple[bool, int, int]]:
        """What each says, without times."""
        here, there = counters.count(hits), count_in_redis(hits)
        assert [(c.admitted, c.window.previous, c.window.current) for c in here] == [
            (c.admitted, c.window.previous, c.window.current) for c in there
        ]
        return [(c.admitted, c.window.previous, c.window.current) for c in here]

    assert sum(admitted for admitted, _, _ in told()) == 10
    time.sleep(2.1)  # both windows are over
    assert sum(admitted for admitted, _, _ in told()) == 10


def test_a_process_lets_in_who_waits_as_long_as_told() -> None:
    rate = RateLimitItemPerSecond(3, 2)
    counters = ProcessCounters()
    hit = Hit("test", "ann", rate)
    refused = next(counted for counted in counters.count([hit] * 4) if not counted.admitted)

    time.sleep(limiter.wait_s(rate, refused.window))

    (counted,) = counters.count([hit])
    assert (counted.admitted, counted.window.current) == (True, 1)
    assert counted.window.previous in (3, 0)  # 0: two more seconds passed, and that window is over too


def test_a_process_forgets_who_does_not_come_again() -> None:
    counters = ProcessCounters()
    counters.count([Hit("test", str(n), RateLimitItemPerSecond(1)) for n in range(100)])
    counters.count([Hit("test", "ann", PER_MINUTE)])

    counters.forget_ended(every_s=0)
    before = len(counters)
    assert before in (101, 1)  # 1: those windows were over, on a machine that stood still
    time.sleep(2.1)
    counters.forget_ended()  # the last time was a moment ago
    assert len(counters) == before
    counters.forget_ended(every_s=0)
    assert len(counters) == 1


def test_who_waits_as_long_as_told_is_let_in(board: None) -> None:
    rate = RateLimitItemPerSecond(3)
    for _ in range(5):
        verdicts = limiter.judge([Hit("test", "ann", rate)] * 4)
    refused = next(v for v in verdicts if not v.admitted)

    time.sleep(refused.wait_s)

    assert limiter.judge([Hit("test", "ann", rate)])[0].admitted


@without_deadline(deadline=None)
@given(amount=st.integers(1, 50), previous=st.integers(0, 50), current=st.integers(0, 50), left=st.floats(0.0, 59.999))
def test_the_wait_is_long_enough_and_not_a_second_too_long(
    amount: int, previous: int, current: int, left: float
) -> None:
    """By the arithmetic of the script: `left` seconds of the present window, and so of the one before it."""
    previous, current = min(previous, amount), min(current, amount)
    rate = RateLimitItemPerMinute(amount)

    def admits(after_s: float) -> bool:
        before, now, rest = previous, current, left - after_s
        if rest <= 0:
            before, now, rest = current, 0, rest + 60
        return math.floor(before * max(0.0, rest) / 60) + now + 1 <= amount

    if admits(0):
        return
    wait = limiter.wait_s(rate, Window(previous, left, current, left + 60))

    assert admits(wait + 0.001)
    assert wait <= 1 or not admits(wait - 1.001)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("", "unknown"),
        ("testclient", "unknown"),
    ],
)
def test_an_address_counts_as_its_household(address: str, counted: str) -> None:
    assert rate_limit_key(address) == counted
