"""The admin's pages about accounts: what ends with an account, and what stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

from scores import services
from scores.models import Action, EndedAccount, UserScore
from tests.polling import until
from tests.scores.admin.test_admin import logged_in
from tests.scores.api.test_tokens import somebody_waits_for_a_lock

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


# At the same time


class Meeting:
    """A form is sent while somebody else's transaction has what it writes, and goes on when that is committed."""

    def __init__(self, admin: Client, rival: BaseDatabaseWrapper) -> None:
        self._admin = admin
        self._rival = rival

    def __call__(self, path: str, form: dict[str, Any], *statements: str) -> str:
        """What the admin reads in the end."""
        with self._rival.cursor() as cursor, ThreadPoolExecutor(1) as pool:
            cursor.execute("BEGIN")
            for statement in statements:
                cursor.execute(statement)
            page = pool.submit(self._send, path, form)
            until(somebody_waits_for_a_lock)
            cursor.execute("COMMIT")
            return page.result()

    def _send(self, path: str, form: dict[str, Any]) -> str:
        try:
            return self._admin.post(path, form, follow=True).content.decode()
        finally:
            connection.close()


@pytest.fixture
def meeting(admin: Client, rival: BaseDatabaseWrapper) -> Meeting:
    return Meeting(admin, rival)


NEW_ANN = (
    "INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser, is_staff, is_active, "
    "date_joined) VALUES ('ann', '', '', '', '', false, false, true, now())"
)
DELETED = "DELETE FROM auth_user WHERE username = 'ann'"
IMMEDIATE = "SET CONSTRAINTS ALL IMMEDIATE"  # locks what a row refers to, as the commit will
ADD_ANN = {"username": "ann"} | PASSWORDS
CHANGE_ANN = {"first_name": "Ann", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}


def test_of_two_who_add_an_account_the_second_is_told(meeting: Meeting) -> None:
    page = meeting(f"{ACCOUNTS}add/", ADD_ANN, NEW_ANN)

    assert "A user with that username already exists." in page
    assert User.objects.filter(username="ann").count() == 1


def test_who_adds_an_account_that_just_ended_is_told(meeting: Meeting) -> None:
    page = meeting(f"{ACCOUNTS}add/", ADD_ANN, NEW_ANN, DELETED)

    assert "belonged to a deleted account" in page
    assert not User.objects.filter(username="ann").exists()


@pytest.mark.parametrize(("address", "form"), [("change", CHANGE_ANN), ("delete", {"post": "yes"})])
def test_who_changes_an_account_that_is_deleted_is_told(
    address: str, form: dict[str, str], meeting: Meeting, ann: User
) -> None:
    page = meeting(f"{ACCOUNTS}{ann.pk}/{address}/", form, DELETED)

    assert "Perhaps it was deleted?" in page or address == "delete"
    assert not User.objects.filter(username="ann").exists()


def test_a_password_for_an_account_that_is_deleted_is_for_nobody(meeting: Meeting, ann: User) -> None:
    page = meeting(f"{ACCOUNTS}{ann.pk}/password/", PASSWORDS | {"set-password": ""}, DELETED)

    assert "Not Found" in page


@pytest.mark.parametrize("one", [True, False])
def test_an_account_that_signs_in_while_it_is_deleted_is_deleted(one: bool, meeting: Meeting, ann: User) -> None:
    some = {"action": "delete_selected", "_selected_action": [ann.pk], "post": "yes"}
    signs_in = (
        f"INSERT INTO {OutstandingToken._meta.db_table} (user_id, jti, token, created_at, expires_at) "
        f"VALUES ({ann.pk}, 'a', '', now(), now())"
    )

    page = meeting(
        f"{ACCOUNTS}{ann.pk}/delete/" if one else ACCOUNTS, {"post": "yes"} if one else some, signs_in, IMMEDIATE
    )

    assert page.count("deleted successfully") + page.count("Successfully deleted") == 1
    assert not User.objects.filter(username="ann").exists()


def test_of_two_who_add_a_group_the_second_is_told(meeting: Meeting) -> None:
    try:
        page = meeting("/admin/auth/group/add/", {"name": "juries"}, "INSERT INTO auth_group (name) VALUES ('juries')")

        assert "Group with this Name already exists." in page
    finally:
        Group.objects.filter(name="juries").delete()


def test_a_group_that_is_deleted_while_it_is_given_is_not_given(meeting: Meeting, ann: User) -> None:
    group = Group.objects.create(name="juries")
    gone = (f"SELECT FROM auth_user WHERE id = {ann.pk} FOR UPDATE", f"DELETE FROM auth_group WHERE id = {group.pk}")

    page = meeting(f"{ACCOUNTS}{ann.pk}/change/", CHANGE_ANN | {"groups": [group.pk]}, *gone)

    assert "is not one of the available choices." in page
    assert "was changed successfully" not in page


NEW_ACTION = "INSERT INTO actions (name, points, cooldown_s, enabled) VALUES ('win', 5, 0, true)"
ACTION = {"points": "10", "cooldown_s": "0", "enabled": "on"}


def test_of_two_who_add_an_action_the_second_is_told(meeting: Meeting) -> None:
    page = meeting("/admin/scores/action/add/", {"name": "win"} | ACTION, NEW_ACTION)

    assert "Action with this Name already exists." in page
    assert Action.objects.get().points == 5


def test_an_action_that_is_deleted_while_it_is_changed_does_not_come_back(meeting: Meeting) -> None:
    Action.objects.create(name="win", points=5)

    page = meeting("/admin/scores/action/win/change/", ACTION, "DELETE FROM actions")

    assert "Perhaps it was deleted?" in page
    assert not Action.objects.exists()


def test_who_is_deleted_while_they_write_gets_a_page_that_says_so(meeting: Meeting, admin: Client) -> None:
    """The admin's log cannot name somebody who is gone."""
    gone = "DELETE FROM auth_user WHERE username = 'admin'"

    page = meeting("/admin/scores/action/add/", {"name": "win"} | ACTION, NEW_ACTION, gone, "DELETE FROM actions")

    assert "Somebody else changed or deleted the same thing at this moment." in page
    assert not Action.objects.exists()


def test_who_is_deleted_while_they_sign_in_gets_a_page_that_says_so(board: None, rival: BaseDatabaseWrapper) -> None:
    User.objects.create_superuser("ann", password="n3w-secret-word")
    form = {"username": "ann", "password": "n3w-secret-word"}

    page = Meeting(Client(), rival)("/admin/login/", form, DELETED)

    assert "Somebody else changed or deleted the same thing at this moment." in page
