from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"

    def ready(self) -> None:
        from scores.signals import leaderboard_changed, redis_moved, scores_committed

        from .receivers import announce, follow, wake

        leaderboard_changed.connect(announce, dispatch_uid="announce")
        # After the receiver of `scores` that moves the copy, so that it is known whether that was announced.
        scores_committed.connect(wake, dispatch_uid="wake")
        redis_moved.connect(follow, dispatch_uid="follow")
