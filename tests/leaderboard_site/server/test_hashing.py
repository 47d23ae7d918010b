"""Who may hash a password when many want to."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from leaderboard_site.asgi_types import Receive, Scope, Send
from leaderboard_site.edge.deadline import Deadline
from leaderboard_site.server import affinity, hashing
from leaderboard_site.server.hashing import Slots
from scores.api import answer
from scores.api.answer import Answer
from scores.exceptions import Overloaded
from tests.polling import until


@contextmanager
def due_in(seconds: float) -> Iterator[Answer]:
    """In this thread, for a request whose answer is due then."""
    due = Answer(time.monotonic() + seconds)
    token = answer.current.set(due)
    try:
        yield due
    finally:
        answer.current.reset(token)


def hash_in(slots: Slots, due: Answer) -> None:
    token = answer.current.set(due)
    try:
        with slots.slot():
            pass
    finally:
        answer.current.reset(token)


def test_as_many_hash_at_once_as_there_are_cpus() -> None:
    assert hashing.slots.running == (len(affinity.allowed) or os.cpu_count())


def test_a_few_wait_and_the_others_are_refused_at_once() -> None:
    slots = Slots(running=1, places=2)
    with ThreadPoolExecutor(5) as pool:
        with slots.slot():
            wanting = [pool.submit(hash_in, slots, Answer(time.monotonic() + 3_600)) for _ in range(5)]
            until(lambda: sum(future.done() for future in wanting) == 3)  # in less than an hour

        hashed = [future for future in wanting if future.exception() is None]

    assert len(hashed) == 2
    assert {type(future.exception()) for future in wanting} == {type(None), Overloaded}


def test_nobody_waits_for_longer_than_there_is_to_the_answer() -> None:
    slots = Slots(running=1, places=2)

    with slots.slot(), due_in(0.001), pytest.raises(Overloaded), slots.slot():
        pass

    with slots.slot():  # and nothing is left behind
        pass


def test_nothing_is_hashed_for_a_request_that_was_answered() -> None:
    slots = Slots(running=1, places=2)
    with due_in(60) as due:
        assert due.refuse()

        with pytest.raises(Overloaded), slots.slot():
            raise AssertionError("it hashed")

    with slots.slot():
        pass


def test_a_deadline_and_a_commit_cannot_both_decide() -> None:
    first = Answer(0)
    first.go_on()
    assert not first.refuse()

    second = Answer(0)
    assert second.refuse()
    with pytest.raises(Overloaded):
        second.go_on()


async def statuses_of(view: Callable[[], None]) -> list[int]:
    """What a client gets whose answer is due in 0.1 s, while `view` works in a thread of its own."""
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(view)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Mapping[str, Any]) -> None:
        if "status" in message:
            sent.append(message["status"])

    await Deadline(app, answer_s=0.1)({}, asyncio.Event().wait, send)  # type: ignore[arg-type]
    return sent


async def test_a_hash_may_take_longer_than_an_answer() -> None:
    """As with a small CPU: nobody could sign in."""

    def view() -> None:
        with Slots(running=1, places=2).slot():
            time.sleep(0.5)

    assert await statuses_of(view) == [200]


async def test_what_comes_after_a_hash_has_what_was_left_before() -> None:
    def view() -> None:
        with Slots(running=1, places=2).slot():
            time.sleep(0.2)
        due = answer.current.get()
        assert due is not None
        until(lambda: due.refused)

    assert await statuses_of(view) == [503]


def test_the_admin_says_that_too_many_sign_in(board: None) -> None:
    User.objects.create_superuser("admin", password="correct horse 9")
    with ExitStack() as stack:
        for _ in range(hashing.slots.running):
            stack.enter_context(hashing.slots.slot())
        stack.enter_context(due_in(0))

        page = Client().post("/admin/login/", {"username": "admin", "password": "correct horse 9"})

    assert (page.status_code, page["Retry-After"]) == (503, "1")
    assert "Too many requests" in page.content.decode()
