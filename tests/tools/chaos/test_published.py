"""What is judged of published events: mistakes of every kind would be noticed."""

from __future__ import annotations

import pytest

from tools.chaos.published import Event, Published

LOG = {seq: Event("ann", f"k{seq}", seq) for seq in range(1, 5)}


def published(*seqs: int, points: int = 0) -> Published:
    made = Published()
    for seq in seqs:
        data = {"epoch": "e1", "seq": seq, "userId": "ann", "key": f"k{seq}", "points": points or seq}
        made.take({"data": data})
    return made


@pytest.mark.parametrize(("seqs", "again"), [((1, 2, 3, 4), 0), ((1, 2, 3, 2, 3, 4), 2), ((1, 2, 1, 2, 3, 3, 1, 4), 4)])
def test_events_may_come_again(seqs: tuple[int, ...], again: int) -> None:
    came = published(*seqs)

    assert came.wrong(LOG) == set()
    assert came.again == again


@pytest.mark.parametrize(
    ("seqs", "wrong"),
    [
        ((1, 2, 3), {4}),
        ((1, 3, 4), {2, 3}),
        ((1, 3, 2, 4), {3}),
        ((1, 2, 3, 4, 5), {5}),
        ((), {1, 2, 3, 4}),
    ],
)
def test_none_may_be_missing_or_come_early(seqs: tuple[int, ...], wrong: set[int]) -> None:
    assert published(*seqs).wrong(LOG) == wrong


def test_each_is_what_the_log_has() -> None:
    assert published(1, 2, 3, 4, points=3).wrong(LOG) == {1, 2, 4}


def test_each_is_the_same_when_it_comes_again() -> None:
    came = published(1, 2, 3, 4)
    came.take({"data": {"epoch": "e1", "seq": 2, "userId": "bob", "key": "k2", "points": 2}})

    assert came.wrong(LOG) == {2}
