"""The metrics of sockets and frames, updated per fan-out and not per frame."""

from __future__ import annotations

import time

from prometheus_client import Counter, Gauge, Histogram

from scores.metrics import commits

sockets = Gauge("leaderboard_sockets", "Sockets that are open.", multiprocess_mode="livesum")
sockets_cap = Gauge(
    "leaderboard_sockets_cap", "Sockets that MAX_SOCKETS allows; 0 if it is off.", multiprocess_mode="livesum"
)
sockets_refused = Counter("leaderboard_sockets_refused", "Sockets closed with 1013 at once: too many.")
frames_sent = Counter("leaderboard_frames_sent", "Frames handed to sockets.")
frames_dropped = Counter(
    "leaderboard_frames_dropped",
    "Frames that a newer one replaced while the client was still taking an earlier one.",
)
talkers_closed = Counter("leaderboard_talkers_closed", "Sockets closed with 4429: the client sent too much.")
frame_delay_seconds = Histogram(
    "leaderboard_frame_delay_seconds",
    "From a commit of this process until its last socket was handed a frame that shows it.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


def observe_shown(seq: int, *, open_sockets: int, sent: bool) -> None:
    """Records that the sockets show the board as of `seq`: a frame was sent, or the top did not change."""
    sockets.set(open_sockets)
    now = time.perf_counter()
    while commits and commits[0][0] <= seq:
        _, committed_at = commits.popleft()
        if sent:
            frame_delay_seconds.observe(now - committed_at)
