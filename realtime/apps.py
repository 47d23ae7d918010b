from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"

    def ready(self) -> None:
        from scores.signals import leaderboard_changed

        from .receivers import announce

        leaderboard_changed.connect(announce, dispatch_uid="announce")
