"""Sockets on which nothing happens: what closes idle sockets does so after 5 s, 30 s or 60 s."""

from __future__ import annotations

from concurrent.futures import Future

from .silence import Minute


def test_an_idle_socket_lives_through_a_minute_and_hears_of_the_next_change(
    a_minute_of_silence: Future[Minute],
) -> None:
    first, frames, then = a_minute_of_silence.result(120)

    # The heartbeat is the state, every 25 s.
    assert frames == [first, first]
    assert then["leaderboard"] == [{"userId": "ann", "score": 7}]
