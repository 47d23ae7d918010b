"""System checks for mistakes in the configuration that would otherwise stay unnoticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def stores_are_real(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The channel layer must connect processes, and the service must control its transactions itself."""
    problems: list[CheckMessage] = []
    if settings.CHANNEL_LAYERS["default"]["BACKEND"] != "channels_redis.pubsub.RedisPubSubChannelLayer":
        problems.append(
            Error(
                "The channel layer is not channels_redis's pub/sub layer.",
                hint="The in-memory layer stays in one process, and the list layer drops messages beyond 100. See docs/adr.",
                id="scores.E001",
            )
        )
    if any(database.get("ATOMIC_REQUESTS") for database in settings.DATABASES.values()):
        problems.append(
            Error(
                "ATOMIC_REQUESTS is on.",
                hint="Async views cannot run in it, and a 200 would be sent before the commit. Turn it off.",
                id="scores.E002",
            )
        )
    return problems
