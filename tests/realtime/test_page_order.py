"""Which page may follow which: in one epoch, after a restore of the database, and from a source that is late."""

from __future__ import annotations

from realtime.page_order import EPOCHS, PageOrder
from scores.selectors import Page, Source


def page(epoch: str, seq: int, *, age_s: float = 0.0) -> Page:
    return Page([], 0, epoch, seq, Source.REDIS, age_s)


def test_in_one_epoch_nothing_goes_back() -> None:
    order = PageOrder()

    admitted = [order.admits(page("a", seq), now=seq) for seq in (0, 50, 49, 50, 51)]

    assert admitted == [True, True, False, True, True]


def test_another_epoch_follows_whatever_its_seq() -> None:
    order = PageOrder()

    assert order.admits(page("a", 50), now=1)
    assert order.admits(page("b", 10), now=2)
    assert not order.admits(page("b", 9), now=3)


def test_an_epoch_that_was_left_does_not_come_back_from_a_source_that_is_late() -> None:
    order = PageOrder()
    order.admits(page("a", 50), now=100)
    order.admits(page("b", 10), now=110)

    for now in (110, 111, 130, 500):
        assert not order.admits(page("a", 51, age_s=now - 109.8), now=now)  # the log was seen before it was left
        assert order.admits(page("b", 10), now=now)


def test_an_epoch_that_the_database_has_again_comes_back() -> None:
    order = PageOrder()
    order.admits(page("a", 50), now=100)
    order.admits(page("b", 10), now=110)

    assert order.admits(page("a", 50), now=120)  # the log was seen just now: the right base was put back after all
    assert not order.admits(page("b", 11, age_s=9), now=121)


def test_it_remembers_a_bounded_number_of_epochs() -> None:
    order = PageOrder()

    for number in range(10 * EPOCHS):
        assert order.admits(page(str(number), 1), now=10 * number)

    assert len(order._left) == EPOCHS
    assert not order.admits(page(str(10 * EPOCHS - 2), 1, age_s=20), now=100 * EPOCHS)
