"""The frame on the wire, as docs/protocol.md shows it and realtime/frames.py makes it."""

from __future__ import annotations

import json
import re
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

import pytest

from realtime.frames import FrameEntry, LeaderboardUpdate, leaderboard_update
from scores.projection.leaderboard import Entry as Line
from scores.selectors import Page, Source
from tools.servers import ROOT

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
EXAMPLES = [
    line
    for document in ("README.md", "docs/protocol.md")
    for line in re.findall(r'^\{"type":"leaderboard_update".*\}$', (ROOT / document).read_text(), re.MULTILINE)
]

every_example = pytest.mark.parametrize("example", EXAMPLES, ids=["readme", "protocol"])


def page(*scores: tuple[str, int], epoch: str = "e", seq: int = 1, age_s: float = 0.3) -> Page:
    lines = [Line(rank, user_id, score) for rank, (user_id, score) in enumerate(scores, start=1)]
    return Page(lines, len(lines), epoch, seq, Source.REDIS, age_s)


@every_example
def test_an_example_is_what_the_server_sends(example: str) -> None:
    frame = json.loads(example)
    scores = [(entry["userId"], entry["score"]) for entry in frame["leaderboard"]]

    assert leaderboard_update(page(*scores, epoch=frame["epoch"], seq=frame["seq"])) == example


@every_example
def test_an_example_has_the_keys_and_types_of_the_contract(example: str) -> None:
    frame = json.loads(example)

    assert_is(frame, LeaderboardUpdate)
    assert frame["leaderboard"]


def assert_is(value: dict[str, Any], kind: Any) -> None:
    """`value` has exactly the keys of the TypedDict `kind`, in their order, with values of their types."""
    hints = get_type_hints(kind, include_extras=True)
    required = {key: hint for key, hint in hints.items() if get_origin(hint) is not NotRequired}
    assert list(value) == list(required)
    for key, hint in required.items():
        if hint == list[FrameEntry]:
            for entry in value[key]:
                assert_is(entry, FrameEntry)
        elif get_origin(hint) is None:
            assert type(value[key]) is hint
        else:
            assert value[key] in get_args(hint)


def test_the_table_of_the_protocol_has_the_keys_of_the_frame() -> None:
    _, _, rest = PROTOCOL.partition("\n### The frame\n")
    table, _, _ = rest.partition("\nFrames are sent\n")

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(get_type_hints(LeaderboardUpdate))


def test_an_empty_board_is_an_empty_list() -> None:
    assert json.loads(leaderboard_update(page(epoch="e", seq=0))) == {
        "type": "leaderboard_update",
        "leaderboard": [],
        "epoch": "e",
        "seq": 0,
    }


def test_a_frame_that_may_be_out_of_date_says_for_how_long() -> None:
    fresh = json.loads(leaderboard_update(page(age_s=1.9)))
    old = json.loads(leaderboard_update(page(age_s=7.9)))

    assert "age" not in fresh
    assert old == fresh | {"age": 7}


def test_the_largest_total_and_a_name_in_any_script_arrive_as_they_are() -> None:
    text = leaderboard_update(page(("Ζωή \U0001f3c6", 2**53 - 1)))

    assert '{"userId":"Ζωή \U0001f3c6","score":9007199254740991}' in text


def test_a_name_that_looks_like_json_stays_a_name() -> None:
    name = '","score":0},{"userId":"x\\'

    (entry,) = json.loads(leaderboard_update(page((name, 1))))["leaderboard"]

    assert entry == {"userId": name, "score": 1}
