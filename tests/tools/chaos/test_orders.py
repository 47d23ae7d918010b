"""What is judged when the parts of a stream were killed: mistakes of every kind would be noticed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tools.chaos.orders import Asked, Found, Orders, judge

GOOD, BAD, EITHER = ("ann", "a"), ("ann", "b"), ("bob", "a")


@pytest.fixture
def orders() -> Orders:
    asked = {GOOD: Asked(3), BAD: Asked(code="unknown_action"), EITHER: Asked(7, "action_cooling_down")}
    return Orders(asked, Counter(asked.keys()))


def found(**changed: Any) -> Found:
    right: dict[str, Any] = {
        "events": {GOOD: [3]},
        "totals": {"ann": 3},
        "letters": Counter([(BAD, "unknown_action"), (EITHER, "action_cooling_down")]),
    }
    return Found(**right | changed)


def test_the_judge_finds_nothing_wrong_with_what_was_asked_for(orders: Orders) -> None:
    counted = found(events={GOOD: [3], EITHER: [7]}, totals={"ann": 3, "bob": 7}, letters={(BAD, "unknown_action"): 2})

    assert judge(orders, found()) == ([], [], [], 2, 0)
    assert judge(orders, counted) == ([], [], [], 1, 1)


LETTERS = found().letters
WRONG = {
    "lost": (found(events={}, totals={}), {"lost": [GOOD]}),
    "a dead letter is lost": (found(letters=LETTERS - Counter([(BAD, "unknown_action")])), {"lost": [BAD]}),
    "doubled": (found(events={GOOD: [3, 3]}, totals={"ann": 6}), {"doubled": [GOOD]}),
    "a total is not the sum": (found(totals={"ann": 4}), {"wrong": [("ann", "total")]}),
    "a total of nobody": (found(totals={"ann": 3, "eve": 1}), {"wrong": [("eve", "total")]}),
    "other points": (found(events={GOOD: [4]}, totals={"ann": 4}), {"wrong": [GOOD]}),
    "a bad entry counts": (found(events={GOOD: [3], BAD: [0]}), {"wrong": [BAD]}),
    "a good entry is refused": (found(letters=LETTERS + Counter([(GOOD, "user_blocked")])), {"wrong": [GOOD]}),
    "refused for another reason": (found(letters=LETTERS + Counter([(BAD, "user_blocked")])), {"wrong": [BAD]}),
    "recorded and refused": (
        found(events={GOOD: [3], EITHER: [7]}, totals={"ann": 3, "bob": 7}),
        {"wrong": [EITHER]},
    ),
    "nobody asked": (found(letters=LETTERS + Counter([(("eve", "a"), "user_blocked")])), {"wrong": [("eve", "a")]}),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_the_judge_notices(mistake: str, orders: Orders) -> None:
    seen, expected = WRONG[mistake]

    verdict = judge(orders, seen)

    assert {name: keys for name in ("lost", "doubled", "wrong") if (keys := getattr(verdict, name))} == expected
