"""The headers that say where in the log an answer is, and how fresh."""

from __future__ import annotations

from scores.board_selectors import BoardPage
from scores.log.ledger import Recorded
from scores.selectors import Page, Place, Standing


def record_headers(recorded: Recorded) -> dict[str, str]:
    """Which event a change is, and the position from which on reads have it."""
    headers = {"X-Leaderboard-Seq": str(recorded.seq)} | position(recorded.origin, recorded.seq)
    if recorded.replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers


def freshness(answer: Page | Standing | Place | BoardPage) -> dict[str, str]:
    """Headers: the store that answered, the event, and for how many seconds newer events may have been missed."""
    return {
        "X-Leaderboard-Source": answer.source.value,
        "X-Leaderboard-Seq": str(answer.seq),
        **position(answer.epoch, answer.seq),
        "X-Leaderboard-Age": f"{answer.age_s:.1f}",
    }


def position(origin: str, seq: int) -> dict[str, str]:
    """The header that says where in the log an answer is."""
    return {"X-Leaderboard-Position": f"{origin}.{seq}"}
