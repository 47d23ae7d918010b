from __future__ import annotations

from django.apps import AppConfig


class ScoresConfig(AppConfig):
    name = "scores"

    def ready(self) -> None:
        from . import checks, schema  # noqa: F401  register themselves
        from .receivers import move_leaderboard
        from .signals import scores_committed

        scores_committed.connect(move_leaderboard, dispatch_uid="move_leaderboard")
