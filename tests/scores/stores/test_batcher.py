"""The thread that does all waiting work as one piece."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from scores.exceptions import OutcomeUnknown, Overloaded
from scores.stores.batcher import Batcher
from tests.polling import until

MakeBatcher = Callable[..., "Batcher[int, int]"]


BROKEN = 666


class Desk:
    """Doubles numbers while it is open, refuses those below zero, breaks at one of them, and remembers its pieces."""

    def __init__(self) -> None:
        self.pieces: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()

    def work(self, items: Sequence[int]) -> list[int | Exception]:
        self.pieces.append(list(items))
        assert self.open.wait(30)
        if BROKEN in items:
            raise OSError("the store is gone")
        return [item * 2 if item >= 0 else LookupError(str(item)) for item in items]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def make_batcher(desk: Desk) -> Iterator[MakeBatcher]:
    batchers: list[Batcher[int, int]] = []

    def make(
        *,
        max_batch: int = 100,
        max_queued: int = 100,
        timeout_s: float = 10.0,
        share: Callable[[], object] | None = None,
    ) -> Batcher[int, int]:
        batchers.append(
            Batcher("test", desk.work, max_batch=max_batch, max_queued=max_queued, timeout_s=timeout_s, share=share)
        )
        return batchers[-1]

    yield make
    desk.open.set()
    for batcher in batchers:
        batcher.close()


async def busy(batcher: Batcher[int, int], desk: Desk) -> asyncio.Task[int]:
    """Have the lane work on 0 until the desk opens."""
    desk.open.clear()
    task = asyncio.create_task(batcher.submit(0))
    await asyncio.to_thread(until, lambda: desk.pieces == [[0]])
    return task


async def test_a_lone_item_is_answered(make_batcher: MakeBatcher) -> None:
    assert await make_batcher().submit(21) == 42


def test_a_thread_may_ask_too(make_batcher: MakeBatcher) -> None:
    assert make_batcher().submit_and_wait(21) == 42


async def test_who_asks_the_same_may_share_an_answer_that_is_still_to_come(
    desk: Desk, make_batcher: MakeBatcher
) -> None:
    batcher = make_batcher(share=list)
    first = await busy(batcher, desk)

    rest = asyncio.gather(*(batcher.submit(n) for n in [1, 2, 1, 0, 1]))
    await asyncio.sleep(0)
    desk.open.set()

    assert (await first, await rest) == (0, [2, 4, 2, 0, 2])
    assert desk.pieces == [[0], [1, 2, 0]]  # the second 0 could want to know of something after the first began


async def test_one_of_those_who_share_may_leave(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(share=list)
    first = await busy(batcher, desk)
    leaves, stays = asyncio.create_task(batcher.submit(1)), asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0)

    leaves.cancel()
    desk.open.set()

    assert (await first, await stays) == (0, 2)
    assert leaves.cancelled()


async def test_what_arrives_meanwhile_is_the_next_piece_in_order(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch=3)
    first = await busy(batcher, desk)

    rest = asyncio.gather(*(batcher.submit(n) for n in range(1, 6)))
    await asyncio.sleep(0)  # all of them are in the queue
    desk.open.set()

    assert [await first, *await rest] == [0, 2, 4, 6, 8, 10]
    assert desk.pieces == [[0], [1, 2, 3], [4, 5]]


async def test_an_item_that_fails_fails_alone(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher()
    first = await busy(batcher, desk)

    rest = asyncio.gather(*map(batcher.submit, (1, -1, 2)), return_exceptions=True)
    await asyncio.sleep(0)
    desk.open.set()
    await first
    one, refused, two = await rest

    assert (one, two) == (2, 4)
    assert isinstance(refused, LookupError)
    assert desk.pieces == [[0], [1, -1, 2]]


async def test_work_that_fails_fails_its_piece_and_not_the_next(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch=2)
    first = await busy(batcher, desk)

    rest = asyncio.gather(*map(batcher.submit, (BROKEN, 1, 2)), return_exceptions=True)
    await asyncio.sleep(0)
    desk.open.set()
    await first
    *failed, two = await rest

    assert [type(error) for error in failed] == [OSError, OSError]
    assert two == 4


@pytest.mark.parametrize(
    "breaks",
    [
        pytest.param(lambda: sys.exit("no more"), id="it ends the thread"),
        pytest.param(lambda: next(iter(())), id="it runs out of something"),
        pytest.param(lambda: [1], id="it answers too few"),
        pytest.param(lambda: [1, 2, 3], id="it answers too many"),
    ],
)
async def test_work_that_breaks_off_leaves_nobody_waiting_and_the_thread_alive(
    breaks: Callable[[], list[int]], desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def work(items: Sequence[int]) -> Sequence[int | Exception]:
        return breaks() if BROKEN in items else desk.work(items)

    batcher: Batcher[int, int] = Batcher("broken", work, max_batch=2, max_queued=10, timeout_s=10)
    first = await busy(batcher, desk)
    from_thread = asyncio.create_task(asyncio.to_thread(batcher.submit_and_wait, BROKEN))
    await asyncio.to_thread(until, lambda: batcher._waiting.qsize() == 1)
    rest = asyncio.gather(*map(batcher.submit, (1, 2)), return_exceptions=True)
    await asyncio.sleep(0)
    desk.open.set()

    with pytest.raises(OutcomeUnknown):
        await from_thread
    lost, answered = await rest
    await first

    assert (type(lost), answered) == (OutcomeUnknown, 4)
    assert "broken: " in caplog.text
    assert batcher.submit_and_wait(21) == 42
    batcher.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12: here it may
def test_a_process_that_was_forked_has_a_thread_of_its_own(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(timeout_s=10)
    assert batcher.submit_and_wait(21) == 42

    child = os.fork()
    if child == 0:
        try:
            os._exit(batcher.submit_and_wait(21) - 42)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_a_full_queue_refuses_and_forgets(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_queued=2)
    first = await busy(batcher, desk)
    waiting = [asyncio.create_task(batcher.submit(n)) for n in (1, 2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await batcher.submit(3)
    with pytest.raises(Overloaded):
        batcher.submit_and_wait(3)

    desk.open.set()
    assert await asyncio.gather(first, *waiting) == [0, 2, 4]
    assert desk.pieces == [[0], [1, 2]]


async def test_patience_ends_with_an_unknown_outcome(desk: Desk, make_batcher: MakeBatcher) -> None:
    desk.open.clear()

    with pytest.raises(OutcomeUnknown):
        await make_batcher(timeout_s=0.02).submit(1)


def test_the_patience_of_a_thread_ends_so_too(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(timeout_s=0.02)
    desk.open.clear()

    with pytest.raises(OutcomeUnknown):
        batcher.submit_and_wait(1)

    desk.open.set()
    batcher.close()
    assert desk.pieces == [[1]]


async def test_what_nobody_waits_for_is_not_worked_on(desk: Desk, make_batcher: MakeBatcher) -> None:
    """Its caller was told that the outcome is unknown, and may have asked again since."""
    batcher = make_batcher()
    first = await busy(batcher, desk)
    batcher._timeout_s = 0.05
    hung_up = asyncio.create_task(batcher.submit(1))
    impatient = [batcher.submit(2), asyncio.to_thread(batcher.submit_and_wait, 3)]
    await asyncio.sleep(0)
    hung_up.cancel()
    assert all(isinstance(e, OutcomeUnknown) for e in await asyncio.gather(*impatient, return_exceptions=True))
    batcher._timeout_s = 10.0

    desk.open.set()

    assert (await first, await batcher.submit(4)) == (0, 8)
    assert desk.pieces == [[0], [4]]


def test_closing_works_off_what_waits(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch=1)
    desk.open.clear()
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(batcher.submit_and_wait, n) for n in range(4)]
        until(lambda: batcher._waiting.qsize() == 3)

        closing = pool.submit(batcher.close)
        until(lambda: batcher._waiting.qsize() == 4)  # the end has taken its place in the queue
        desk.open.set()

        assert [answer.result(30) for answer in answers] == [0, 2, 4, 6]
        closing.result(30)


def test_it_works_again_after_closing(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher()
    for number in range(3):
        assert batcher.submit_and_wait(number) == number * 2

        batcher.close()

    assert desk.pieces == [[0], [1], [2]]


def test_closing_what_never_ran_is_nothing(make_batcher: MakeBatcher) -> None:
    make_batcher().close()


def test_the_end_of_an_event_loop_is_not_the_end_of_the_lane(
    desk: Desk, make_batcher: MakeBatcher, caplog: pytest.LogCaptureFixture
) -> None:
    batcher = make_batcher()
    desk.open.clear()

    async def ask_and_leave() -> None:
        task = asyncio.create_task(batcher.submit(1))
        await asyncio.to_thread(until, lambda: desk.pieces)
        task.cancel()

    asyncio.run(ask_and_leave())
    desk.open.set()

    assert batcher.submit_and_wait(2) == 4
    assert "because the event loop is closed" in caplog.text


def test_loops_and_threads_share_a_lane(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch=7)

    async def submit_many(base: int) -> list[int]:
        return await asyncio.gather(*(batcher.submit(base + n) for n in range(20)))

    with ThreadPoolExecutor(4) as pool:
        loops = [pool.submit(asyncio.run, submit_many(base)) for base in (0, 100)]
        threads = [pool.submit(batcher.submit_and_wait, n) for n in range(200, 220)]

    assert [loop.result() for loop in loops] == [[2 * (base + n) for n in range(20)] for base in (0, 100)]
    assert [thread.result() for thread in threads] == [2 * n for n in range(200, 220)]


async def test_many_items_at_once_have_their_answers_in_order(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_batch=3)

    answers = await batcher.submit_all([1, -1, 2, 3, 4])

    assert [answer if isinstance(answer, int) else type(answer) for answer in answers] == [2, LookupError, 4, 6, 8]
    assert [item for piece in desk.pieces for item in piece] == [1, -1, 2, 3, 4]
    assert await batcher.submit_all([]) == []


async def test_of_many_items_those_in_a_broken_piece_share_its_error(make_batcher: MakeBatcher, desk: Desk) -> None:
    batcher = make_batcher(max_batch=2)
    first = await busy(batcher, desk)
    rest = asyncio.create_task(batcher.submit_all([1, 2, BROKEN, 3, 4]))
    await asyncio.sleep(0)
    desk.open.set()

    answers = await rest

    assert await first == 0
    assert [answer if isinstance(answer, int) else type(answer) for answer in answers] == [2, 4, OSError, OSError, 8]


async def test_of_many_items_those_without_an_answer_in_time_are_told_so(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(timeout_s=0.2, max_batch=2)
    desk.open.clear()

    answers = await batcher.submit_all([1, 2, 3])

    assert [type(answer) for answer in answers] == [OutcomeUnknown] * 3
    desk.open.set()
    assert await make_batcher().submit(4) == 8
    batcher.close()
    assert 3 not in [item for piece in desk.pieces for item in piece]  # nobody waited for it any more


async def test_many_items_find_room_for_all_of_them_or_none_begins(desk: Desk, make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_queued=3)
    first = await busy(batcher, desk)

    with pytest.raises(Overloaded):
        await batcher.submit_all([1, 2, 3, 4])
    rest = asyncio.create_task(batcher.submit_all([1, 2, 3]))
    await asyncio.sleep(0)
    desk.open.set()

    assert (await first, await rest) == (0, [2, 4, 6])
    assert desk.pieces == [[0], [1, 2, 3]]
