"""System checks: what configuration can get wrong without anybody noticing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def stores_are_real(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The promises of this service need a channel layer between processes and transactions of its own making."""
    problems: list[CheckMessage] = []
    if settings.CHANNEL_LAYERS["default"]["BACKEND"] != "channels_redis.pubsub.RedisPubSubChannelLayer":
        problems.append(
            Error(
                "The channel layer is not channels_redis's pub/sub layer.",
                hint="The in-memory layer ends at the process, and the list layer drops at 100 messages. See docs/adr.",
                id="scores.E001",
            )
        )
    if any(database.get("ATOMIC_REQUESTS") for database in settings.DATABASES.values()):
        problems.append(
            Error(
                "ATOMIC_REQUESTS is on.",
                hint="Async views cannot run in it, and 200 would be said before the commit. Turn it off.",
                id="scores.E002",
            )
        )
    return problems
