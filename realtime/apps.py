from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"

    def ready(self) -> None:
        from scores.signals import leaderboard_changed, redis_moved

        from .receivers import announce, follow

        leaderboard_changed.connect(announce, dispatch_uid="announce")
        redis_moved.connect(follow, dispatch_uid="follow")
