"""Whatever stands in an address or a list of the admin, it is refused and not a failure."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from redis import Redis

from .test_admin import logged_in, score


@pytest.fixture
def admin(copy: Redis) -> Client:
    score(ann=20)
    return logged_in(User.objects.create_superuser("admin"))


@pytest.mark.parametrize(
    ("page", "action", "selected"),
    [
        ("scores/userscore", "block_selected", "a\0b"),
        ("scores/servicetoken", "revoke_selected", "\0"),
        ("scores/action", "delete_selected", "\0"),
        ("auth/user", "delete_selected", "abc"),
        ("auth/group", "delete_selected", "\0"),
    ],
)
def test_a_selection_of_what_cannot_be_is_refused(page: str, action: str, selected: str, admin: Client) -> None:
    answer = admin.post(f"/admin/{page}/", {"action": action, "_selected_action": selected})

    assert answer.status_code < 500


@pytest.mark.parametrize(
    "address",
    [
        "scores/action/%00/change/",
        "scores/userscore/?pk=%00",
        "scores/userscore/?user_id__regex=(",
        "scores/userscore/?updated_at__year=0",
        "scores/userscore/export/?user_id=%00",
        "scores/scoreevent/?kind=%00",
        "scores/servicetoken/?state=%00",
        "auth/user/?date_joined__year=99999999999",
        "auth/group/?name__regex=(",
    ],
)
def test_an_address_with_what_cannot_be_is_refused(address: str, admin: Client) -> None:
    assert admin.get(f"/admin/{address}").status_code < 500


@pytest.mark.parametrize("charset", ["iso-8859-1", "base64", "bogus"])
@pytest.mark.parametrize("path", ["/", "/admin/login/", "/admin/x"])
def test_a_form_in_another_charset_is_refused(path: str, charset: str, board: None) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.cookies["csrftoken"] = "a" * 32

    answer = client.generic("POST", path, b"a=b", f"application/x-www-form-urlencoded; charset={charset}")

    assert answer.status_code < 500
