"""The admin's pages about accounts: what ends with an account, and what stays."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

from scores import services
from scores.models import EndedAccount, UserScore
from tests.scores.admin.test_admin import logged_in

ACCOUNTS = "/admin/auth/user/"
PASSWORDS = {"usable_password": "true", "password1": "n3w-secret-word", "password2": "n3w-secret-word"}


@pytest.fixture
def admin(board: None) -> Client:
    return logged_in(User.objects.create_superuser("admin"))


@pytest.fixture
def ann(board: None) -> User:
    services.correct(user_id="ann", total=5, actor="test", reason="start")
    return User.objects.create_user("ann")


def add(admin: Client, username: str) -> str:
    return admin.post(f"{ACCOUNTS}add/", {"username": username} | PASSWORDS).content.decode()


def test_whoever_deletes_an_account_reads_what_stays(admin: Client, ann: User) -> None:
    one = admin.get(f"{ACCOUNTS}{ann.pk}/delete/").content.decode()
    some = admin.post(ACCOUNTS, {"action": "delete_selected", "_selected_action": [ann.pk]}).content.decode()

    for page in (one, some):
        assert "never given to anybody again" in page
        assert "make it inactive instead" in page


def test_a_deleted_account_leaves_its_score_and_its_name(admin: Client, ann: User) -> None:
    admin.post(f"{ACCOUNTS}{ann.pk}/delete/", {"post": "yes"})

    assert not User.objects.filter(username="ann").exists()
    assert UserScore.objects.get().score == 5
    assert EndedAccount.objects.get().username == "ann"


def test_the_name_of_a_deleted_account_is_not_given_again(admin: Client, ann: User) -> None:
    ann.delete()

    assert "belonged to a deleted account" in add(admin, "ann")
    with pytest.raises(CommandError, match="belonged to a deleted account"):
        call_command("superuser", "--username", "ann", stdout=StringIO())


def test_a_name_that_is_no_user_id_is_not_given(admin: Client) -> None:
    assert "This username is not allowed." in add(admin, "..")


def test_an_administrator_may_give_a_score_an_account(admin: Client) -> None:
    services.correct(user_id="bob", total=5, actor="test", reason="start")

    add(admin, "bob")

    assert User.objects.filter(username="bob").exists()


def test_nobody_renames_an_account(admin: Client, ann: User) -> None:
    """The score would stay with the old name."""
    page = admin.get(f"{ACCOUNTS}{ann.pk}/change/").content.decode()
    assert 'name="username"' not in page

    dates = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    admin.post(f"{ACCOUNTS}{ann.pk}/change/", {"username": "anna", "first_name": "Ann"} | dates)

    ann.refresh_from_db()
    assert (ann.username, ann.first_name) == ("ann", "Ann")


def test_no_page_shows_refresh_tokens(admin: Client) -> None:
    assert not django_admin.site.is_registered(OutstandingToken)
    assert not django_admin.site.is_registered(BlacklistedToken)
    assert admin.get("/admin/token_blacklist/outstandingtoken/").status_code == 404
