"""The catalogue of actions in the admin."""

from __future__ import annotations

import pytest
from django.test import Client
from redis import Redis

from scores.models import Action

from .test_admin import logged_in
from .test_moderation import member_of

ADD = "/admin/scores/action/add/"
WIN = {"name": "win", "points": "10", "cooldown_s": "0", "enabled": "on"}


@pytest.fixture
def admin(copy: Redis) -> Client:
    return logged_in(member_of("Admins", "mia"))


def window(begins: str = "", ends: str = "") -> dict[str, str]:
    """The fields of a window on a day, by its times."""
    return {
        f"{name}_{part}": value
        for name, time in (("starts_at", begins), ("ends_at", ends))
        for part, value in (("0", time and "2026-12-01"), ("1", time))
    }


@pytest.mark.parametrize("ends", ["11:59", "12:00"])
def test_a_window_that_is_never_open_is_refused(ends: str, admin: Client) -> None:
    page = admin.post(ADD, WIN | window("12:00", ends))

    assert page.context["adminform"].form.errors == {
        "ends_at": ["This is not after the beginning: the action could never be taken."]
    }
    assert not Action.objects.exists()


@pytest.mark.parametrize("times", [{}, {"begins": "12:00"}, {"ends": "12:00"}, {"begins": "12:00", "ends": "12:01"}])
def test_a_window_may_be_open_on_either_side(times: dict[str, str], admin: Client) -> None:
    assert admin.post(ADD, WIN | window(**times)).status_code == 302
    assert Action.objects.exists()
