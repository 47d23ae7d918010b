"""Sockets on which nothing happens: what closes idle sockets does so after 5 s, 30 s or 60 s."""

from __future__ import annotations

import json
from pathlib import Path

from . import silence


def test_an_idle_socket_lives_through_a_minute_and_hears_of_the_next_change(
    a_minute_of_silence: Path,
) -> None:
    first, frames, then = silence.seen(a_minute_of_silence)

    # The heartbeat is the state, every 25 s. Of a machine that stood still it is told with an age, and then without.
    late = sum("age" in json.loads(frame) for frame in frames)
    assert {json.dumps(json.loads(frame) | {"age": 0}) for frame in [first, *frames]} == {
        json.dumps(json.loads(first) | {"age": 0})
    }
    assert 2 <= len(frames) <= 2 + 2 * late
    assert then["leaderboard"] == [{"userId": "ann", "score": 7}]
