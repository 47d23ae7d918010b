"""Facts, in the past tense, with plain values. Sent with `send_robust`, after they happened."""

from __future__ import annotations

from django.dispatch import Signal

# Changes are durable. Provides: origin (str), first and last (int, the seqs of their first and last event), members
# (int, users on the board), totals (dict of user id to total, `None` for a user who is off the board), mark_before and
# mark (int, the marks of the event before the first, and of these). Sent by the thread that committed.
scores_committed = Signal()

# The copy in Redis moved. Provides: origin (str), seq (int, the newest event in the copy).
leaderboard_changed = Signal()

# Another server may be the primary of Redis: connections that were made before may lead to the former one. Sent by the
# thread that found out.
redis_moved = Signal()
