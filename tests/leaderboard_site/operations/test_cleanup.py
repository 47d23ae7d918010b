"""What has expired is removed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

from leaderboard_site.operations import cleanup
from leaderboard_site.operations.cleanup import GRACE, PORTION, clean
from tests.conftest import database_url
from tests.polling import until
from tools.servers import Server


@pytest.fixture
def sessions() -> Iterator[None]:
    yield
    Session.objects.filter(pk__in=["old", "new"]).delete()


def tokens(number: int, *, expired_for: timedelta, name: str = "old") -> None:
    """Half of them are used."""
    expires_at = timezone.now() - expired_for
    made = OutstandingToken.objects.bulk_create(
        OutstandingToken(jti=f"{name}-{index}", token="", expires_at=expires_at) for index in range(number)
    )
    BlacklistedToken.objects.bulk_create(BlacklistedToken(token=token) for token in made[::2])


def test_a_portion_at_a_time(board: None) -> None:
    tokens(PORTION + 2, expired_for=2 * GRACE)

    assert clean()
    assert (OutstandingToken.objects.count(), BlacklistedToken.objects.count()) == (2, 1)
    assert not clean()
    assert not OutstandingToken.objects.exists()


def test_what_may_still_be_asked_for_stays(board: None) -> None:
    tokens(2, expired_for=-GRACE, name="new")
    tokens(2, expired_for=GRACE / 2, name="old, but not for a host whose clock is behind")
    tokens(2, expired_for=2 * GRACE)

    clean()

    assert OutstandingToken.objects.filter(expires_at__gt=timezone.now() - GRACE).count() == 4
    assert OutstandingToken.objects.count() == 4


def test_expired_sessions_go_too(board: None, sessions: None) -> None:
    for key, days in (("old", -1), ("new", 1)):
        Session.objects.create(session_key=key, expire_date=timezone.now() + timedelta(days=days))

    clean()

    assert [session.pk for session in Session.objects.filter(pk__in=["old", "new"])] == ["new"]


def test_one_process_at_a_time(board: None, rival: BaseDatabaseWrapper) -> None:
    tokens(2, expired_for=2 * GRACE)
    with transaction.atomic(), rival.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [cleanup.LOCK])
        assert not clean()
        cursor.execute("ROLLBACK")

    assert OutstandingToken.objects.count() == 2


def test_a_server_does_it_by_itself(board: None, tmp_path: Path) -> None:
    tokens(2, expired_for=2 * GRACE)

    server = Server(log=tmp_path / "log", env={"DATABASE_URL": database_url()}).start()

    until(lambda: not OutstandingToken.objects.exists())
    assert server.stop() == 0
