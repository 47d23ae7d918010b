"""System checks for mistakes in the configuration that would otherwise stay unnoticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string


@register()
def stores_are_real(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The channel layer must connect processes, and the service must control its transactions itself."""
    problems: list[CheckMessage] = []
    if not issubclass(import_string(settings.CHANNEL_LAYERS["default"]["BACKEND"]), RedisPubSubChannelLayer):
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


@register()
def foreign_users_have_a_namespace(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Where everyone may register, nobody should be able to register the id of an identity provider's user."""
    if settings.REGISTRATION != "open" or not settings.JWKS_URL or settings.JWKS_SUBJECT_PREFIX:
        return []
    return [
        Warning(
            "Accounts here and users of the identity provider at JWKS_URL share one namespace, and REGISTRATION is open.",
            hint="Whoever registers the name of such a user gets their score. Set JWKS_SUBJECT_PREFIX, for example to "
            "idp: (their scores then begin anew, under ids with that prefix), or REGISTRATION=closed.",
            id="scores.W001",
        )
    ]
