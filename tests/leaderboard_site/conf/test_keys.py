"""Where the keys of an identity provider may come from."""

from __future__ import annotations

import os
import subprocess

import pytest

from leaderboard_site.conf.keys import is_confidential
from tools.servers import ROOT, UVICORN


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.org/keys.json",
        "https://id.example.org:8443/keys?v=1",
        "http://127.0.0.1:8080/keys.json",
        "http://localhost/keys.json",
        "http://[::1]:8080/keys.json",
    ],
)
def test_keys_come_over_https_or_from_this_machine(url: str) -> None:
    assert is_confidential(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.org/keys.json",
        "http://127.0.0.1.example.org/",
        "http://localhost@example.org/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/keys.json",
        "https://",
        "https://[::1",
        "https://a:b/",
        "https://ann:pw@example.org/keys.json",
        "keys.json",
    ],
)
def test_they_come_from_nowhere_else(url: str) -> None:
    assert not is_confidential(url)


def test_a_provider_with_a_password_stops_the_start_without_showing_it() -> None:
    env = os.environ | {"JWKS_URL": "http://ann:swordfish@id.example.org/keys.json"}

    ended = subprocess.run(UVICORN, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "JWKS_URL=(not shown: it has an @ or a ?): expected https://" in ended.stderr
    assert "swordfish" not in ended.stderr


def test_a_provider_without_issuer_and_audience_stops_the_start() -> None:
    env = os.environ | {"JWKS_URL": "http://id.example.org/keys.json", "JWKS_SUBJECT_PREFIX": "service:"}

    ended = subprocess.run(UVICORN, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "JWKS_URL='http://id.example.org/keys.json': expected https://" in ended.stderr
    assert "JWKS_URL needs JWT_ISSUER and JWT_AUDIENCE" in ended.stderr
    assert "JWKS_SUBJECT_PREFIX='service:': expected" in ended.stderr
