"""What `manage.py check` says of a configuration that would break a promise."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.core.checks import run_checks


def problems() -> list[str]:
    return [message.id for message in run_checks() if message.id is not None and message.id.startswith("scores.")]


def test_the_settings_as_they_are_have_no_problem() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    "backend", ["channels.layers.InMemoryChannelLayer", "channels_redis.core.RedisChannelLayer"], ids=["memory", "list"]
)
def test_a_layer_that_forgets_or_drops_is_an_error(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.CHANNEL_LAYERS["default"], "BACKEND", backend)

    assert problems() == ["scores.E001"]


def test_a_transaction_around_each_request_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)

    assert problems() == ["scores.E002"]


@pytest.mark.parametrize(
    ("registration", "url", "prefix", "expected"),
    [
        ("open", "https://id.example.org/keys", "", ["scores.W001"]),
        ("open", "https://id.example.org/keys", "idp:", []),
        ("closed", "https://id.example.org/keys", "", []),
        ("open", "", "", []),
    ],
)
def test_one_namespace_for_accounts_and_foreign_users_is_told(
    registration: str, url: str, prefix: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("REGISTRATION", registration), ("JWKS_URL", url), ("JWKS_SUBJECT_PREFIX", prefix)):
        monkeypatch.setattr(settings, name, value)

    assert problems() == expected
