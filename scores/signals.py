"""Facts that others may want to hear, in the past tense, as plain values. Sent with `send_robust`, after the fact."""

from __future__ import annotations

from django.dispatch import Signal

# Changes are durable. Provides: origin (str), first and last (int, the numbers of their events), members (int, users on
# the board), totals (dict of user id to total, `None` for a user who is off the board). Sent by the thread that committed.
scores_committed = Signal()

# The copy in Redis moved. Provides: origin (str), seq (int, the event it is at).
leaderboard_changed = Signal()
