from __future__ import annotations

from django.apps import AppConfig


class ScoresConfig(AppConfig):
    name = "scores"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_login_failed

        from scores.access.sign_ins import log_failure
        from scores.projection.receivers import move_leaderboard

        from . import checks  # noqa: F401  registers the checks
        from .api import openapi  # noqa: F401  registers the extensions
        from .signals import scores_committed

        user_login_failed.connect(log_failure, dispatch_uid="log_failure")
        scores_committed.connect(move_leaderboard, dispatch_uid="move_leaderboard")
