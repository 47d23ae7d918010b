"""Crowds that register and sign in at once, and a database that is late: an answer says what happened."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from scores.api.refresh_tokens import AccountToken
from tests.polling import until
from tools.servers import Server

PASSWORD = "correct horse 9"
ITERATIONS = 100_000
CROWD = [f"player-{number}" for number in range(12)]


@pytest.fixture(scope="module")
def hashing_server(_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its hashes take long enough for a crowd to come in the meantime."""
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "TESTS_HASH_ITERATIONS": str(ITERATIONS)}
    server = Server(log=tmp_path_factory.mktemp("storms") / "log", env=env).start()
    yield server
    server.stop()


@pytest.fixture
def hashing_api(hashing_server: Server, board: None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{hashing_server.url}/api/v1", timeout=30) as client:
        yield client


def ask_all(api: httpx.Client, path: str, names: list[str]) -> dict[str, httpx.Response]:
    def ask(name: str) -> httpx.Response:
        return api.post(path, json={"username": name, "password": PASSWORD})

    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


def is_registered(api: httpx.Client, name: str) -> bool:
    return api.post("/auth/register", json={"username": name, "password": PASSWORD}).status_code == 201


def with_status(status: int, answers: dict[str, httpx.Response]) -> set[str]:
    return {name for name, answer in answers.items() if answer.status_code == status}


def unknown_in(answers: dict[str, httpx.Response]) -> set[str]:
    """Whose commit was not confirmed in time."""
    return {name for name in with_status(503, answers) if answers[name].json()["code"] == "outcome_unknown"}


def test_of_a_crowd_that_registers_those_who_are_told_so_have_an_account(hashing_api: httpx.Client) -> None:
    answers = ask_all(hashing_api, "/auth/register", CROWD)

    registered, refused = with_status(201, answers), with_status(503, answers)
    assert registered
    assert registered | refused == set(CROWD)
    assert all(answers[name].headers["Retry-After"] == "1" for name in refused)
    assert registered <= set(User.objects.values_list("username", flat=True)) <= registered | unknown_in(answers)
    for name in CROWD:  # who was refused may try again; and who missed the answer
        until(partial(is_registered, hashing_api, name))


def test_of_a_crowd_that_signs_in_those_who_find_a_place_get_in(hashing_api: httpx.Client) -> None:
    password = PBKDF2PasswordHasher().encode(PASSWORD, "salt", ITERATIONS)
    User.objects.bulk_create(User(username=name, password=password) for name in CROWD)

    answers = ask_all(hashing_api, "/auth/token", CROWD)

    assert with_status(200, answers)
    refused = with_status(503, answers)
    assert with_status(200, answers) | refused == set(CROWD)
    signed_in = len(CROWD) - len(refused)
    assert signed_in <= OutstandingToken.objects.count() <= signed_in + len(unknown_in(answers))


@pytest.mark.parametrize("path", ["/auth/token", "/auth/register"])
def test_who_finds_no_place_takes_no_thread(path: str, hashing_server: Server, hashing_api: httpx.Client) -> None:
    """Some sixty threads, each with a little to do, kept the interpreter from everybody else for a tenth of a second."""
    crowd = [f"player-{number}" for number in range(60)]
    most = 0
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_all, hashing_api, path, crowd)
        while not asking.done():
            most = max(most, threads_of(hashing_server))

    refused = [answer.json()["code"] for answer in asking.result().values() if answer.status_code == 503]
    assert "overloaded" in refused
    assert most < len(crowd) / 2


def threads_of(server: Server) -> int:
    return sum(1 for _ in Path(f"/proc/{server.process.pid}/task").iterdir())


@pytest.fixture
def held_accounts(rival: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
    """Nobody can write an account, as when the database stands still."""
    with rival.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE auth_user IN SHARE MODE")
        yield rival
        cursor.execute("ROLLBACK")


def test_what_was_answered_503_does_not_happen_later(api: httpx.Client, held_accounts: BaseDatabaseWrapper) -> None:
    late = api.post("/auth/register", json={"username": "ann", "password": PASSWORD})
    assert (late.status_code, late.json()["code"]) == (503, "unavailable")

    with held_accounts.cursor() as cursor:
        cursor.execute("ROLLBACK")

    # If the first were going to happen, this one would wait for it and then be a 409.
    again = api.post("/auth/register", json={"username": "ann", "password": "another horse 9"})
    assert again.status_code == 201


def test_a_commit_that_is_not_confirmed_may_have_happened(api: httpx.Client, rival: BaseDatabaseWrapper) -> None:
    """The reference of the new token to its account is checked by the commit, which has to wait here."""
    token = str(AccountToken.for_user(User.objects.create_user("ann")))
    with rival.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM auth_user WHERE username = 'ann' FOR UPDATE")
        late = api.post("/auth/refresh", json={"refresh": token})
        cursor.execute("ROLLBACK")

    assert (late.status_code, late.json()["code"]) == (503, "outcome_unknown")
    # It did, and is repeated.
    assert api.post("/auth/refresh", json={"refresh": token}).status_code == 200


def test_a_commit_whose_connection_ends_may_have_happened(api: httpx.Client, rival: BaseDatabaseWrapper) -> None:
    token = str(AccountToken.for_user(User.objects.create_user("ann")))
    with rival.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM auth_user WHERE username = 'ann' FOR UPDATE")
        asked = pool.submit(api.post, "/auth/refresh", json={"refresh": token})
        until(end_who_waits_for_a_lock)
        cursor.execute("ROLLBACK")

    assert (asked.result().status_code, asked.result().json()["code"]) == (503, "outcome_unknown")
    assert api.post("/auth/refresh", json={"refresh": token}).status_code == 200


def end_who_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return cursor.fetchone() is not None


@pytest.mark.parametrize("path", ["/auth/register", "/auth/token", "/auth/refresh", "/auth/logout"])
def test_a_table_that_is_missing_is_a_503(path: str, api: httpx.Client, rival: BaseDatabaseWrapper) -> None:
    token = str(AccountToken.for_user(User.objects.create_user("ann", password=PASSWORD)))
    name = "ben" if path == "/auth/register" else "ann"
    with rival.cursor() as cursor:
        cursor.execute("ALTER TABLE token_blacklist_outstandingtoken RENAME TO away")
        try:
            refused = api.post(path, json={"username": name, "password": PASSWORD, "refresh": token})
        finally:
            cursor.execute("ALTER TABLE away RENAME TO token_blacklist_outstandingtoken")

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert not User.objects.filter(username="ben").exists()
