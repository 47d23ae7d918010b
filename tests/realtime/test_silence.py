"""Sockets on which nothing happens: what closes idle sockets does so after 5 s, 30 s or 60 s."""

from __future__ import annotations

from pathlib import Path

from . import silence


def test_an_idle_socket_lives_through_a_minute_and_hears_of_the_next_change(
    a_minute_of_silence: Path,
) -> None:
    first, frames, then = silence.seen(a_minute_of_silence)

    # The heartbeat is the state, every 25 s.
    assert frames == [first, first]
    assert then["leaderboard"] == [{"userId": "ann", "score": 7}]
