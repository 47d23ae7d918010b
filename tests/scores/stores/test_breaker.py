"""Who may ask a store that did not answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from scores.stores.breaker import Breaker
from tests.polling import until


def test_while_all_is_well_everybody_may_ask() -> None:
    breaker = Breaker()

    assert [breaker.admits() for _ in range(3)] == [True, True, True]
    assert not breaker.is_open


def test_after_a_failure_nobody_may_ask() -> None:
    breaker = Breaker(probe_every_s=60)
    breaker.failed()

    assert [breaker.admits() for _ in range(3)] == [False, False, False]
    assert breaker.is_open


def test_a_failure_is_not_for_ever() -> None:
    breaker = Breaker(probe_every_s=0.02)
    breaker.failed()

    until(breaker.admits)


def whose_wait_is_over() -> Breaker:
    breaker = Breaker(probe_every_s=60)
    breaker.failed()
    breaker._probe_at = 0.0
    return breaker


def test_after_the_wait_one_may_ask() -> None:
    breaker = whose_wait_is_over()

    assert [breaker.admits() for _ in range(3)] == [True, False, False]


def test_an_answer_lets_everybody_in_again() -> None:
    breaker = Breaker(probe_every_s=60)
    breaker.failed()

    breaker.succeeded()

    assert [breaker.admits() for _ in range(3)] == [True, True, True]


def test_a_probe_that_fails_starts_the_wait_anew() -> None:
    breaker = whose_wait_is_over()
    assert breaker.admits()

    breaker.failed()

    assert not breaker.admits()


def test_of_many_who_come_together_one_is_the_probe() -> None:
    breaker = whose_wait_is_over()
    together = threading.Barrier(8)

    def ask(_: int) -> bool:
        together.wait()
        return breaker.admits()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1
