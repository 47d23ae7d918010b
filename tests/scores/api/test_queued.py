"""Prefer: respond-async: accepted now, counted soon, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import aio_pika
import httpx
import pytest

from leaderboard_site.conf.broker import broker_of
from scores import services
from scores.log.writer import writer
from scores.models import Action, ScoreEvent, UserScore
from tests.conftest import TokenFor, pause, standing_still, wait_until_noticed
from tests.polling import until
from tests.scores.conftest import nothing_was_written
from tests.scores.streams.conftest import Worker
from tools.servers import Server
from tools.stores import RabbitMQ

QUEUE = f"queued-{uuid4().hex[:12]}"
SOON = {"Prefer": "respond-async"}
Post = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def _queueing(_stores: None, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    asyncio.run(purge(rabbitmq))
    env = {"BROKER_URL": rabbitmq.url, "INGEST": "0", "INGEST_QUEUE": QUEUE}
    with standing_still(tmp_path_factory.mktemp("queueing"), **env) as server:
        yield server


@pytest.fixture
def queueing(_queueing: Server, board: None, rabbitmq: RabbitMQ, settings: Any) -> Iterator[Server]:
    """A server with a broker that nothing drains until a test does."""
    settings.BROKER = broker_of(rabbitmq.url)
    asyncio.run(purge(rabbitmq))
    _queueing.resume()
    try:
        wait_until_noticed(_queueing)
        yield _queueing
    finally:
        pause(_queueing)


async def purge(rabbitmq: RabbitMQ) -> None:
    """Drop what an earlier test has left. Not a quorum queue: see tests/leaderboard_site/local/test_rabbitmq.py."""
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(QUEUE, durable=True)
        await queue.purge()


@pytest.fixture
def post(queueing: Server, token_for: TokenFor) -> Iterator[Post]:
    """Posts an increment of a player who does not want to wait: `post("ann", {"points": 3}, key="a")`."""
    with httpx.Client(base_url=queueing.url, verify=False, timeout=30) as client:

        def post(user_id: str, body: Any, *, key: str | None = None, headers: dict[str, str] = SOON) -> httpx.Response:
            headers = headers | {"Authorization": f"Bearer {token_for(user_id)}"}
            headers |= {} if key is None else {"Idempotency-Key": key}
            return client.post("/api/v1/scores/increment", json=body, headers=headers)

        yield post


@pytest.fixture
def look(queueing: Server, token_for: TokenFor) -> Iterator[Callable[[str, str], httpx.Response]]:
    """What became of it: `look("ann", "/api/v1/scores/queued/a")`."""
    with httpx.Client(base_url=queueing.url, verify=False, timeout=30) as client:
        yield lambda user_id, address: client.get(address, headers={"Authorization": f"Bearer {token_for(user_id)}"})


@pytest.fixture
def drain(queueing: Server) -> Iterator[Callable[[], None]]:
    """Begins to drain the queue."""
    workers: list[Worker] = []

    def start() -> None:
        workers.append(Worker(QUEUE, 512, writer.record))

    yield start
    for worker in workers:
        worker.stop()


def test_what_is_accepted_now_is_counted_soon(post: Post, look: Any, drain: Any) -> None:
    answer = post("ann", {"points": 3}, key="a")

    assert (answer.status_code, answer.json()) == (202, {"success": True, "queued": True, "key": "a"})
    assert answer.headers["Location"] == "/api/v1/scores/queued/a"
    assert answer.headers["Preference-Applied"] == "respond-async"
    before = look("ann", answer.headers["Location"])
    assert (before.status_code, before.json()["queued"]) == (202, True)
    assert before.headers["Retry-After"] == "1"
    assert nothing_was_written()

    drain()

    until(lambda: look("ann", answer.headers["Location"]).status_code == 200)
    counted = look("ann", answer.headers["Location"])
    assert counted.json() == {"success": True, "newScore": 3, "seq": 1}
    assert counted.headers["X-Leaderboard-Seq"] == "1"
    assert counted.headers["X-Leaderboard-Position"].endswith(".1")
    assert ScoreEvent.objects.get().actor == ""


def test_a_retry_is_counted_once_whether_it_waits_or_not(post: Post, look: Any, drain: Any) -> None:
    assert [post("ann", {"points": 3}, key="a").status_code for _ in range(3)] == [202] * 3
    assert post("ann", {"points": 3}, key="a", headers={}).json() == {"success": True, "newScore": 3}

    drain()
    last = post("ann", {"points": 1})
    until(lambda: look("ann", last.headers["Location"]).status_code == 200)

    assert UserScore.objects.get().score == 4


def test_without_a_key_one_is_made(post: Post, look: Any, drain: Any) -> None:
    first, second = post("ann", {"points": 3}), post("ann", {"points": 3})

    assert first.json()["key"] != second.json()["key"]
    drain()
    for answer in (first, second):
        until(lambda at=answer.headers["Location"]: look("ann", at).status_code == 200)  # type: ignore[misc]
    assert UserScore.objects.get().score == 6


@pytest.mark.parametrize("key", ["a/b", "a%2Fb", "?#", "100%", "~!*'()", "k" * 255])
def test_a_key_of_any_characters_has_an_address(post: Post, look: Any, drain: Any, key: str) -> None:
    answer = post("ann", {"points": 3}, key=key)
    drain()

    until(lambda: look("ann", answer.headers["Location"]).status_code == 200)
    assert look("bob", answer.headers["Location"]).status_code == 202  # a key belongs to a user


def test_what_is_refused_later_is_told_as_the_problem_that_it_is(post: Post, look: Any, drain: Any) -> None:
    Action.objects.create(name="quest", points=7, cooldown_s=3_600)
    services.block(user_id="eve", actor="root", reason="")
    asked = [
        ("eve", {"points": 1}, 403, "user_blocked"),
        ("ann", {"action": "none"}, 400, "unknown_action"),
        ("bob", {"action": "quest"}, 200, None),
        ("bob", {"action": "quest"}, 429, "action_cooling_down"),
    ]
    answers = [post(user_id, body) for user_id, body, *_ in asked]
    assert {answer.status_code for answer in answers} == {202}

    drain()

    for (user_id, _, status, code), answer in zip(asked, answers, strict=True):
        address = answer.headers["Location"]
        until(lambda who=user_id, at=address: look(who, at).status_code != 202)  # type: ignore[misc]
        told = look(user_id, address)
        assert (told.status_code, told.json().get("code")) == (status, code)
        assert ("Retry-After" in told.headers) is (status == 429)


@pytest.mark.parametrize(
    ("body", "key", "code"),
    [
        ({"points": 1.5}, "a", "points_is_float"),
        ({"points": 1, "action": "quest"}, "a", "points_and_action"),
        ({"points": 1}, "a b", "idempotency_key_invalid"),
        ([], "a", "invalid_body"),
    ],
)
def test_what_cannot_be_understood_is_refused_at_once(post: Post, body: Any, key: str, code: str) -> None:
    answer = post("ann", body, key=key)

    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize("prefer", ["", "wait=5", "respond-asynchronously", 'foo="bar"', "return=minimal"])
def test_who_does_not_ask_for_it_waits(post: Post, prefer: str) -> None:
    answer = post("ann", {"points": 3}, key="a", headers={"Prefer": prefer})

    assert (answer.status_code, answer.json()) == (200, {"success": True, "newScore": 3})


@pytest.mark.parametrize("prefer", ["Respond-Async", "wait=5, respond-async", "respond-async;foo=1, return=minimal"])
def test_the_preference_may_be_one_of_several(post: Post, prefer: str) -> None:
    assert post("ann", {"points": 3}, headers={"Prefer": prefer}).status_code == 202


def test_a_service_has_nothing_queued(queueing: Server, token_for: TokenFor) -> None:
    authorization = {"Authorization": f"Bearer {token_for('arena', scope='scores:write:any')}"}

    answer = httpx.get(f"{queueing.url}/api/v1/scores/queued/a", headers=authorization, verify=False)

    assert (answer.status_code, answer.json()["code"]) == (403, "service_has_no_score")


def test_while_the_broker_is_away_nothing_is_accepted_and_others_go_on(
    post: Post, look: Any, drain: Any, rabbitmq: RabbitMQ
) -> None:
    kept = post("ann", {"points": 3}, key="kept")
    rabbitmq.kill()
    try:
        refused = post("ann", {"points": 4}, key="a")
        waited = post("ann", {"points": 5}, key="b", headers={})
    finally:
        rabbitmq.boot()

    assert (refused.status_code, refused.json()["code"]) == (503, "broker_away")
    assert refused.headers["Retry-After"] == "1"
    assert waited.json() == {"success": True, "newScore": 5}
    until(lambda: post("ann", {"points": 4}, key="a").status_code == 202)
    drain()
    for address in (kept.headers["Location"], "/api/v1/scores/queued/a"):
        until(lambda at=address: look("ann", at).status_code == 200)  # type: ignore[misc]
    assert UserScore.objects.get().score == 12


def test_without_a_broker_nothing_changes(server: Server, token_for: TokenFor) -> None:
    headers = SOON | {"Authorization": f"Bearer {token_for('ann')}", "Idempotency-Key": "a"}
    with httpx.Client(base_url=f"{server.url}/api/v1", verify=False, headers=headers) as client:
        answer = client.post("/scores/increment", json={"points": 3})

        assert (answer.status_code, answer.json()) == (200, {"success": True, "newScore": 3})
        assert client.get("/scores/queued/a").json() == {"success": True, "newScore": 3, "seq": 1}
        unknown = client.get("/scores/queued/b")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
