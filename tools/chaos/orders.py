"""What is asked for by messages, what may become of each of it, and the judgement of what did."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

PLAYERS = [f"player{number}" for number in range(60)]
QUESTERS = [f"quester{number}" for number in range(5)]
BLOCKED = "mallory"
QUEST, QUEST_POINTS = "quest", 7  # an action with a cooldown: which of its entries count is a matter of order
USED_KEYS, USED_POINTS = [f"used-{number}" for number in range(20)], 5  # with these points, before anything is hurt
MOST_ENTRIES = 100

Key = tuple[str, str]  # of an entry: user and key; of a message that cannot be read: nobody, and its text


class Asked(NamedTuple):
    """What may become of an entry: an event of so many points, a dead letter with this code, or either."""

    points: int = 0  # 0: it must not count
    code: str = ""  # empty: it must not be refused


@dataclass
class Orders:
    """Everything that was asked for, and how often each entry was sent."""

    asked: dict[Key, Asked] = field(default_factory=dict)
    sent: Counter[Key] = field(default_factory=Counter)


@dataclass
class Found:
    """The log, the totals and the dead letters, as they are."""

    events: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))  # points
    totals: dict[str, int] = field(default_factory=dict)
    letters: Counter[tuple[Key, str]] = field(default_factory=Counter)  # with their codes


class Verdict(NamedTuple):
    """What is wrong, by entry; and what is right, by number."""

    lost: list[Key]  # neither recorded nor refused
    doubled: list[Key]  # several events
    wrong: list[Key]  # other points or another code than asked for, both recorded and refused, or not asked for at all
    refused: int
    letters_again: int  # dead letters, more than times that an entry was sent


def judge(orders: Orders, found: Found) -> Verdict:
    codes: dict[Key, set[str]] = defaultdict(set)
    for key, code in found.letters:
        codes[key].add(code)
    lost, doubled, wrong = [], [], []
    for key, asked in orders.asked.items():
        events, refusals = found.events.get(key, []), codes.get(key, set())
        if not events and not refusals:
            lost.append(key)
        if len(events) > 1:
            doubled.append(key)
        # What is sent anew is decided anew, and may count when its first message was refused.
        is_both = bool(events and refusals) and orders.sent[key] == 1
        if is_both or not set(events) <= {asked.points} - {0} or not refusals <= {asked.code} - {""}:
            wrong.append(key)
    wrong += (found.events.keys() | codes.keys()) - orders.asked.keys()
    sums: Counter[str] = Counter()
    for (user_id, _), points in found.events.items():
        sums[user_id] += sum(points)
    wrong += [
        (user_id, "total") for user_id in sums.keys() | found.totals if sums[user_id] != found.totals.get(user_id)
    ]
    again = sum(max(0, number - orders.sent[key]) for (key, _), number in found.letters.items())
    return Verdict(lost, doubled, wrong, len(codes), again)


class Composer:
    """Makes messages of 1 to 100 entries, of which some are bad in known ways, and some were there before."""

    def __init__(self, orders: Orders, chance: Random) -> None:
        self._orders = orders
        self._chance = chance
        self._made = 0
        self._good: list[dict[str, object]] = []

    def used_keys(self) -> tuple[bytes, list[Key]]:
        """The message that uses them."""
        entries = [
            self._noted(PLAYERS[0], key, Asked(USED_POINTS, "idempotency_key_reused"), points=USED_POINTS)
            for key in USED_KEYS
        ]
        return json.dumps(entries).encode(), [(PLAYERS[0], key) for key in USED_KEYS]

    def message(self) -> tuple[bytes, list[Key]]:
        self._made += 1
        if self._chance.random() < 0.05:
            text = f"no JSON {self._made}"
            self._orders.asked["", text] = Asked(code="invalid_json")
            return text.encode(), [("", text)]
        count = round(MOST_ENTRIES ** self._chance.random())
        entries = [self._entry(f"{self._made}-{place}") for place in range(count)]
        body = entries if count > 1 else entries[0]
        return json.dumps(body).encode(), [(str(entry["userId"]), str(entry["key"])) for entry in entries]

    def _entry(self, key: str) -> dict[str, object]:
        user_id, points = self._chance.choice(PLAYERS), self._chance.randint(1, 100)
        match self._chance.choices(range(7), (76, 10, 6, 2, 2, 2, 2))[0]:
            case 1 if self._good:
                return self._chance.choice(self._good)
            case 2:
                both = Asked(QUEST_POINTS, "action_cooling_down")
                return self._noted(self._chance.choice(QUESTERS), key, both, action=QUEST)
            case 3:
                return self._noted(user_id, key, Asked(code="points_is_float"), points=1.5)
            case 4:
                return self._noted(user_id, key, Asked(code="unknown_action"), action="none")
            case 5:
                return self._noted(BLOCKED, key, Asked(code="user_blocked"), points=points)
            case 6:
                used = self._chance.choice(USED_KEYS)
                return {"userId": PLAYERS[0], "key": used, "points": points + USED_POINTS}
        self._good.append(entry := self._noted(user_id, key, Asked(points), points=points))
        return entry

    def _noted(self, user_id: str, key: str, asked: Asked, **what: object) -> dict[str, object]:
        self._orders.asked[user_id, key] = asked
        return {"userId": user_id, "key": key, **what}
