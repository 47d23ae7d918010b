from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"

    def ready(self) -> None:
        from scores.signals import leaderboard_changed, redis_moved, scores_committed

        from .board_hub import board_hub
        from .hub import hub
        from .receivers import announce, follow, wake

        leaderboard_changed.connect(announce, dispatch_uid="announce")
        # After the receiver of `scores` that moves the copy, so that it is known whether that was announced.
        scores_committed.connect(wake, dispatch_uid="wake")
        hub.on_change(board_hub.wake)
        redis_moved.connect(follow, dispatch_uid="follow")
