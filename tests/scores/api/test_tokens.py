"""Where tokens come from, how long they are good, and how they are taken back."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from scores import services
from scores.access import authentication
from scores.api import refresh_tokens, registration
from scores.api.refresh_tokens import AccountToken
from scores.models import EndedAccount, ScoreEvent
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.access.forgery import claims, nested_header, signed
from tests.scores.conftest import Post
from tools.servers import Server

PASSWORD = "correct horse 9"


def code(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(answer.json()["code"])


def payload(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def ann(board: None) -> User:
    """Somebody who registered."""
    return User.objects.create_user("ann", password=PASSWORD)


@pytest.fixture
def refresh(ann: User) -> str:
    """A refresh token of ann's."""
    return str(AccountToken.for_user(ann))


# Bodies and answers


@pytest.mark.parametrize(
    "path", ["/auth/register", "/auth/token", "/auth/refresh", "/auth/logout", "/scores/increment"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "*/*"},
        {"Content-Type": "application/*"},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "identity, gzip"},
    ],
    ids=str,
)
@pytest.mark.writes_nothing
def test_a_body_that_is_not_plain_json_is_a_415(
    path: str, headers: dict[str, str], api: httpx.Client, token_for: TokenFor
) -> None:
    sent = {"Content-Type": "application/json"} | bearer(token_for("ann")) | headers

    answer = api.post(path, content=b'{"username": "ann", "password": "correct horse 9", "points": 1}', headers=sent)

    assert (answer.status_code, code(answer)) == (415, "unsupported_media_type")
    if "Content-Encoding" in headers:
        assert "Content-Encoding" in answer.json()["detail"]
        assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "text/html, */*;q=0.1"])
def test_who_accepts_json_or_says_nothing_gets_it(accept: str, ann: User, api: httpx.Client) -> None:
    body = {"username": "ann", "password": PASSWORD}

    assert api.post("/auth/token", json=body, headers={"Accept": accept}).status_code == 200


def test_who_accepts_no_json_is_told_so(ann: User, api: httpx.Client) -> None:
    answer = api.post("/auth/token", json={"username": "ann"}, headers={"Accept": "text/html"})

    assert (answer.status_code, code(answer)) == (406, "not_acceptable")


# Registration


def test_a_new_user_gets_tokens_that_work(api: httpx.Client) -> None:
    answer = api.post("/auth/register", json={"username": "ann", "password": PASSWORD})

    assert answer.status_code == 201
    assert set(answer.json()) == {"userId", "access", "refresh"}
    assert answer.json()["userId"] == "ann"
    scored = api.post("/scores/increment", json={"points": 10}, headers=bearer(answer.json()["access"]))
    assert scored.json() == {"success": True, "newScore": 10}
    assert api.post("/auth/refresh", json={"refresh": answer.json()["refresh"]}).status_code == 200


def register(api: httpx.Client, username: str, password: str = PASSWORD) -> httpx.Response:
    return api.post("/auth/register", json={"username": username, "password": password})


def taken(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and code(answer) == "username_taken"


def test_a_taken_name_is_a_conflict(ann: User, api: httpx.Client) -> None:
    assert taken(register(api, "ann", "another horse 9"))


def test_of_two_who_want_a_name_at_once_one_gets_it(api: httpx.Client) -> None:
    with ThreadPoolExecutor(2) as pool:
        passwords = ["correct horse 9", "another horse 9"]
        statuses = sorted(pool.map(lambda password: register(api, "ann", password).status_code, passwords))

    assert statuses == [201, 409]


def test_whoever_missed_the_answer_to_a_registration_may_repeat_it(api: httpx.Client) -> None:
    """At the same time, too, as a client does that does not wait for an answer."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: register(api, "ann"), range(4)))

    assert [answer.status_code for answer in answers] == [201] * 4
    assert {payload(answer.json()["refresh"])["account"] for answer in answers} == {User.objects.get().pk}
    User.objects.update(date_joined=timezone.now() - registration.REPEATED_FOR)
    assert taken(register(api, "ann"))


def test_a_deactivated_account_is_not_registered_again(ann: User, api: httpx.Client) -> None:
    User.objects.update(is_active=False)

    assert taken(register(api, "ann"))


# Names outlive accounts


def test_a_name_with_a_score_is_not_registered(api: httpx.Client, increment: Post) -> None:
    """A game server scored for it: it is somebody's, although there is no account."""
    increment("ann", 10)

    assert taken(register(api, "ann"))


def test_a_name_with_a_block_is_not_registered(api: httpx.Client) -> None:
    services.block(user_id="ann", actor="admin", reason="speed hack")

    assert taken(register(api, "ann"))


def delete(user: User) -> None:
    user.delete()


def delete_by_hand(user: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM token_blacklist_outstandingtoken")
        cursor.execute("DELETE FROM auth_user WHERE id = %s", [user.pk])


def truncate(user: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE auth_user CASCADE")


def rename(user: User) -> None:
    user.username = "anna"
    user.save()


@pytest.mark.parametrize("end", [delete, delete_by_hand, truncate, rename])
def test_the_name_of_an_account_that_ended_is_not_registered(
    end: Callable[[User], None], ann: User, api: httpx.Client
) -> None:
    end(ann)

    assert taken(register(api, "ann"))
    with pytest.raises(IntegrityError):  # nor made in any other way
        User.objects.create_user("ann")


def test_a_name_that_is_deleted_while_somebody_registers_it_is_not_registered(
    ann: User, api: httpx.Client, rival: BaseDatabaseWrapper
) -> None:
    """The insert waits for the deletion, and then has to see what the deletion did."""
    User.objects.update(date_joined=timezone.now() - registration.REPEATED_FOR)
    with rival.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("BEGIN")
        cursor.execute("DELETE FROM auth_user WHERE id = %s", [ann.pk])
        inserting = pool.submit(insert_ann)
        until(somebody_waits_for_a_lock)
        cursor.execute("COMMIT")

        assert isinstance(inserting.exception(), IntegrityError)


def insert_ann() -> None:
    try:
        User.objects.create_user("ann")
    finally:
        connection.close()


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:  # not the rival's: in a transaction, it would see what it saw first
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"
        )
        return bool(cursor.fetchone()[0])


def test_who_empties_the_table_of_names_too_means_it(ann: User) -> None:
    """As Django's `flush` does, in one statement."""
    with transaction.atomic(), connection.cursor() as cursor:
        EndedAccount.objects.create(username="ben")
        cursor.execute("TRUNCATE ended_accounts, auth_user CASCADE")
        left = list(EndedAccount.objects.all())
        transaction.set_rollback(True)

    assert left == []


@pytest.mark.parametrize("end", [delete, truncate])
def test_tokens_of_a_deleted_account_are_refused_at_once(
    end: Callable[[User], None], ann: User, api: httpx.Client
) -> None:
    tokens = api.post("/auth/token", json={"username": "ann", "password": PASSWORD}).json()

    end(ann)

    scored = api.post("/scores/increment", json={"points": 10}, headers=bearer(tokens["access"]))
    refreshed = api.post("/auth/refresh", json={"refresh": tokens["refresh"]})
    assert (scored.status_code, code(scored)) == (403, "user_inactive")
    assert (refreshed.status_code, code(refreshed)) == (401, "token_invalid")


def test_a_refresh_token_belongs_to_the_account_and_not_to_the_name(ann: User, refresh: str, api: httpx.Client) -> None:
    """As when a backup is put back in which the name is not taken."""
    ann.delete()
    EndedAccount.objects.all().delete()
    User.objects.create_user("ann", password=PASSWORD)

    answer = api.post("/auth/refresh", json={"refresh": refresh})

    assert (answer.status_code, code(answer)) == (401, "token_invalid")


def old_refresh(user: User) -> str:
    """As earlier versions issued them: without a claim for the account, and stored as they are."""
    return str(RefreshToken.for_user(user))


def test_a_refresh_token_of_an_earlier_version_goes_on(ann: User, api: httpx.Client) -> None:
    answer = api.post("/auth/refresh", json={"refresh": old_refresh(ann)})

    assert answer.status_code == 200
    assert payload(answer.json()["refresh"])["account"] == ann.pk


def test_a_refresh_token_of_an_earlier_version_belongs_to_its_account_too(ann: User, api: httpx.Client) -> None:
    token = old_refresh(ann)
    ann.delete()
    EndedAccount.objects.all().delete()
    User.objects.create_user("ann", password=PASSWORD)

    answer = api.post("/auth/refresh", json={"refresh": token})

    assert (answer.status_code, code(answer)) == (401, "token_invalid")


@pytest.mark.parametrize(
    ("username", "expected"),
    [
        pytest.param("", "username_blank", id="empty"),
        pytest.param("two words", "username_invalid", id="blank inside"),
        pytest.param("a/b", "username_invalid", id="slash"),
        pytest.param(".", "username_invalid", id="dot"),
        pytest.param("..", "username_invalid", id="two dots"),
        pytest.param("🏆", "username_invalid", id="emoji"),
        pytest.param("x" * 151, "username_max_length", id="151 letters"),
        pytest.param("㌀" * 150, "username_invalid", id="600 letters once normal"),
        pytest.param("a\0b", "username_null_characters_not_allowed", id="NUL"),
        pytest.param("a\ud800", "username_surrogate_characters_not_allowed", id="surrogate"),
        pytest.param(None, "username_null", id="null"),
        pytest.param(True, "username_invalid", id="true"),
        pytest.param({}, "username_invalid", id="object"),
        pytest.param(12, "username_invalid", id="number"),
    ],
)
@pytest.mark.writes_nothing
def test_a_bad_name_is_refused(username: object, expected: str, api: httpx.Client) -> None:
    body = json.dumps({"username": username, "password": PASSWORD})  # httpx's own does not write half characters

    answer = api.post("/auth/register", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, code(answer)) == (400, expected)


@pytest.mark.parametrize("password", ["short 1", "password", "annabelle"], ids=["short", "common", "like the name"])
@pytest.mark.writes_nothing
def test_a_weak_password_is_refused(password: str, api: httpx.Client) -> None:
    answer = api.post("/auth/register", json={"username": "annabell", "password": password})

    assert (answer.status_code, code(answer)) == (400, "password_too_weak")


@pytest.mark.parametrize(
    ("address", "body", "expected"),
    [
        ("register", {"username": "ann", "password": 8_277_631_904}, "password_invalid"),
        ("token", {"username": 12, "password": PASSWORD}, "username_invalid"),
        ("token", {"username": "ann", "password": 12}, "password_invalid"),
        ("refresh", {"refresh": 12}, "refresh_invalid"),
        ("logout", {"refresh": 12}, "refresh_invalid"),
    ],
)
@pytest.mark.writes_nothing
def test_a_number_is_no_text(address: str, body: object, expected: str, api: httpx.Client) -> None:
    answer = api.post(f"/auth/{address}", json=body)

    assert (answer.status_code, code(answer)) == (400, expected)


def test_a_name_becomes_a_user_id_in_normal_form(api: httpx.Client) -> None:
    answer = api.post("/auth/register", json={"username": "e\u0301mile", "password": PASSWORD})

    assert answer.json()["userId"] == "émile"
    assert api.get("/me", headers=bearer(answer.json()["access"])).json()["code"] == "no_score"


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b'{"username": "a", "username": "b"}', b"{"])
@pytest.mark.writes_nothing
def test_a_wrong_body_is_a_problem(body: bytes, api: httpx.Client) -> None:
    answer = api.post("/auth/register", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert code(answer)


@pytest.mark.writes_nothing
def test_closed_registration_says_so(server: Server, tmp_path: Path) -> None:
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "REGISTRATION": "closed"}
    closed = Server(log=tmp_path / "log", env=env).start()

    body = {"username": "ann", "password": PASSWORD}
    answer = httpx.post(f"{closed.url}/api/v1/auth/register", json=body, verify=False)

    assert (answer.status_code, code(answer)) == (403, "registration_closed")
    closed.stop()


# Signing in


def test_a_password_is_worth_a_pair(ann: User, api: httpx.Client) -> None:
    answer = api.post("/auth/token", json={"username": "ann", "password": PASSWORD})

    assert answer.status_code == 200
    assert set(answer.json()) == {"access", "refresh"}
    assert payload(answer.json()["access"])["user_id"] == "ann"


@pytest.mark.parametrize(("username", "password"), [("ann", "wrong"), ("ann", PASSWORD + " "), ("bob", PASSWORD)])
def test_a_wrong_name_and_a_wrong_password_are_the_same(
    username: str, password: str, ann: User, api: httpx.Client
) -> None:
    answer = api.post("/auth/token", json={"username": username, "password": password})

    assert (answer.status_code, code(answer)) == (401, "no_active_account")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="leaderboard"'


def test_who_types_the_same_as_at_the_registration_is_the_same(api: httpx.Client) -> None:
    """Blanks around a password are part of it, and accents may be typed in two ways."""
    account = {"username": "e\u0301mile", "password": f"  {PASSWORD} "}
    api.post("/auth/register", json=account)

    answer = api.post("/auth/token", json=account)

    assert payload(answer.json()["access"])["user_id"] == "émile"


def test_an_access_token_lives_for_fifteen_minutes(refresh: str, api: httpx.Client) -> None:
    access = payload(api.post("/auth/refresh", json={"refresh": refresh}).json()["access"])

    assert access["exp"] - access["iat"] in (899, 900)  # two looks at the clock


def test_a_deactivated_user_gets_no_tokens(ann: User, refresh: str, api: httpx.Client) -> None:
    User.objects.update(is_active=False)

    signed_in = api.post("/auth/token", json={"username": "ann", "password": PASSWORD})
    refreshed = api.post("/auth/refresh", json={"refresh": refresh})

    assert (signed_in.status_code, code(signed_in)) == (401, "no_active_account")
    assert (refreshed.status_code, code(refreshed)) == (401, "no_active_account")


NO_PLAYERS = ["service:arena", "..", "a/../b", "a\x07b"]


@pytest.mark.parametrize("username", NO_PLAYERS)
def test_an_account_that_can_be_no_player_gets_no_tokens(username: str, board: None, api: httpx.Client) -> None:
    """From before there was the rule, or by Django's own command. Its access token would be refused everywhere."""
    account = User.objects.create_user(username, password=PASSWORD)
    refresh = str(AccountToken.for_user(account))
    tokens = OutstandingToken.objects.count()

    right, wrong = (
        api.post("/auth/token", json={"username": username, "password": word}) for word in (PASSWORD, "wrong")
    )
    refreshed = use(api, refresh)

    assert (right.status_code, code(right)) == (400, "username_invalid")
    assert right.json()["errors"] == {"username": ["This username is not allowed."]}
    assert (wrong.status_code, code(wrong)) == (401, "no_active_account")
    assert (refreshed.status_code, code(refreshed)) == (401, "token_invalid")
    assert OutstandingToken.objects.count() == tokens
    assert api.post("/auth/logout", json={"refresh": refresh}).status_code == 204


# Refreshing


def use(api: httpx.Client, token: str) -> httpx.Response:
    return api.post("/auth/refresh", json={"refresh": token})


def used_up(answer: httpx.Response) -> bool:
    return answer.status_code == 401 and code(answer) == "token_invalid"


def test_whoever_missed_the_answer_to_a_refresh_may_repeat_it(refresh: str, api: httpx.Client) -> None:
    first, again = use(api, refresh), use(api, refresh)

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["refresh"] == again.json()["refresh"]
    assert use(api, again.json()["refresh"]).status_code == 200


def test_a_used_refresh_token_is_repeated_for_half_a_minute(refresh: str, api: httpx.Client) -> None:
    use(api, refresh)

    BlacklistedToken.objects.update(blacklisted_at=timezone.now() - refresh_tokens.REPEATED_FOR)

    assert used_up(use(api, refresh))


def test_whoever_used_the_successor_has_got_it(refresh: str, api: httpx.Client) -> None:
    """So nobody needs the old one any more, but for whoever stole it."""
    successor = use(api, refresh).json()["refresh"]
    use(api, successor)

    assert used_up(use(api, refresh))
    assert use(api, successor).status_code == 200


def test_however_many_refresh_together_get_the_same_successor(refresh: str, api: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: use(api, refresh), range(8)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh"] for answer in answers}) == 1
    assert OutstandingToken.objects.count() == 2


def test_logging_out_uses_the_refresh_token_up(refresh: str, api: httpx.Client) -> None:
    answer = api.post("/auth/logout", json={"refresh": refresh})

    assert (answer.status_code, answer.content) == (204, b"")
    assert used_up(use(api, refresh))
    assert used_up(api.post("/auth/logout", json={"refresh": refresh}))


@pytest.mark.parametrize("with_the", ["old", "new"])
def test_logging_out_ends_the_old_token_and_the_new_one(with_the: str, refresh: str, api: httpx.Client) -> None:
    """A page that missed the answer to its refresh has only the old one to sign out with."""
    successor = use(api, refresh).json()["refresh"]

    answer = api.post("/auth/logout", json={"refresh": {"old": refresh, "new": successor}[with_the]})

    assert answer.status_code == 204
    assert used_up(use(api, refresh))
    assert used_up(use(api, successor))


def test_a_new_password_ends_the_refresh_tokens(ann: User, refresh: str, api: httpx.Client) -> None:
    successor = use(api, refresh).json()["refresh"]
    ann.set_password("another horse 9")
    ann.save()

    assert used_up(use(api, refresh))
    assert used_up(use(api, successor))
    assert use(api, str(AccountToken.for_user(ann))).status_code == 200


def test_no_refresh_token_is_stored_in_readable_form(ann: User, api: httpx.Client) -> None:
    tokens = [register(api, "bob"), api.post("/auth/token", json={"username": "ann", "password": PASSWORD})]
    tokens += [use(api, answer.json()["refresh"]) for answer in tokens]

    assert set(OutstandingToken.objects.values_list("token", flat=True)) == {""}
    known = {payload(answer.json()["refresh"])["jti"] for answer in tokens}
    assert set(OutstandingToken.objects.values_list("jti", flat=True)) == known


def test_the_migration_empties_what_earlier_versions_stored(ann: User) -> None:
    RefreshToken.for_user(ann)  # as they did it
    assert OutstandingToken.objects.get().token

    with connection.cursor() as cursor:
        cursor.execute(import_module("scores.migrations.0008_ended_accounts").NO_READABLE_TOKENS)

    assert OutstandingToken.objects.get().token == ""


def test_an_access_token_carries_nothing_of_the_account(refresh: str, api: httpx.Client) -> None:
    assert set(payload(use(api, refresh).json()["access"])) == {"token_type", "user_id", "jti", "iat", "exp"}


def test_a_refresh_token_of_a_user_who_is_gone_is_worth_nothing(ann: User, refresh: str, api: httpx.Client) -> None:
    ann.delete()

    answer = api.post("/auth/refresh", json={"refresh": refresh})

    assert (answer.status_code, code(answer)) == (401, "token_invalid")


REQUESTS: dict[str, tuple[str, int, str]] = {
    "refresh": ("/auth/refresh", 401, "token_invalid"),
    "logout": ("/auth/logout", 401, "token_invalid"),
    "sign in": ("/auth/token", 401, "no_active_account"),
    "sign in with an old hash": ("/auth/token", 401, "no_active_account"),
    "register again": ("/auth/register", 409, "username_taken"),
    "register again with an old hash": ("/auth/register", 409, "username_taken"),
}


def newcomers() -> Iterator[User]:
    """One after the other, for a request that waited for longer than it may: the machine stood still."""
    for number in range(5):
        yield User.objects.create_user(f"ann{number}", password=PASSWORD)


def asked_while(
    statements: list[str], api: httpx.Client, path: str, body: dict[str, str], rival: BaseDatabaseWrapper
) -> httpx.Response:
    """The answer to who has to wait for a transaction of these statements, which is committed meanwhile."""
    with rival.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("BEGIN")
        for statement in statements:
            cursor.execute(statement)
        asked = pool.submit(api.post, path, json=body)
        until(lambda: somebody_waits_for_a_lock() or asked.done())
        has_to_wait = not asked.done()
        cursor.execute("COMMIT")
    answer = asked.result()
    assert has_to_wait or answer.status_code == 503
    return answer


@pytest.mark.parametrize(
    ("name", "deleted"),
    [*((name, "account") for name in REQUESTS), ("refresh", "tokens"), ("logout", "tokens")],
)
def test_who_is_deleted_while_a_request_waits_is_gone(
    name: str, deleted: str, api: httpx.Client, rival: BaseDatabaseWrapper
) -> None:
    path, status, expected = REQUESTS[name]
    deletes = ["DELETE FROM token_blacklist_outstandingtoken", *["DELETE FROM auth_user"] * (deleted == "account")]

    for user in newcomers():
        if "old hash" in name:  # which is renewed
            User.objects.update(password=PBKDF2PasswordHasher().encode(PASSWORD, "salt", 2))
        signs_in = {"username": user.username, "password": PASSWORD}
        body = {"refresh": str(AccountToken.for_user(user))} if expected == "token_invalid" else signs_in
        if (answer := asked_while(deletes, api, path, body, rival)).status_code != 503:
            break

    assert (answer.status_code, code(answer)) == (status, expected)
    assert not OutstandingToken.objects.exists()


@pytest.mark.parametrize(("path", "status"), [("/auth/refresh", 401), ("/auth/logout", 204)])
def test_an_account_whose_tokens_stay_is_deleted_while_a_request_waits(
    path: str, status: int, api: httpx.Client, rival: BaseDatabaseWrapper
) -> None:
    deletes = ["UPDATE token_blacklist_outstandingtoken SET user_id = NULL", "DELETE FROM auth_user"]

    for user in newcomers():
        body = {"refresh": str(AccountToken.for_user(user))}
        if (answer := asked_while(deletes, api, path, body, rival)).status_code != 503:
            break

    assert answer.status_code == status
    assert not OutstandingToken.objects.filter(user__isnull=False).exists()


def good_refresh(**changed: Any) -> str:
    return signed(claims(token_type="refresh", **changed))


ODD: dict[str, Callable[[], str]] = {
    "garbage": lambda: "garbage",
    "access token": lambda: str(AccessToken()),
    "wrong key": lambda: signed(claims(token_type="refresh"), key="k" * 48),
    "nested header": lambda: nested_header(8_000),
    "jti missing": lambda: good_refresh(jti=...),
    "jti null": lambda: good_refresh(jti=None),
    "jti of 300": lambda: good_refresh(jti="j" * 300),
    "jti with NUL": lambda: good_refresh(jti="\0"),
    "jti half an emoji": lambda: good_refresh(jti="\ud83d"),
    "exp text": lambda: good_refresh(exp="99999999999"),
    "exp 1e308": lambda: good_refresh(exp=1e308),
    "exp 10^12": lambda: good_refresh(exp=10**12),
    "exp 2^62": lambda: good_refresh(exp=2**62),
    "user_id nobody's": lambda: good_refresh(user_id="nobody"),
    "account unknown": lambda: good_refresh(account=0, session_auth_hash=""),
    "account object": lambda: good_refresh(account={"a": 1}, session_auth_hash=""),
    "account 1e308": lambda: good_refresh(account=1e308, session_auth_hash=""),
    "account without password": lambda: good_refresh(account=User.objects.get().pk),
    "password object": lambda: good_refresh(account=User.objects.get().pk, session_auth_hash={"a": 1}),
    "password half an emoji": lambda: good_refresh(account=User.objects.get().pk, session_auth_hash="\ud83d"),
    "user_id object": lambda: good_refresh(user_id={"a": 1}),
    "user_id with NUL": lambda: good_refresh(user_id="a\0"),
    "user_id half an emoji": lambda: good_refresh(user_id="\ud83d"),
}


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout"])
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_refresh_token_is_refused(name: str, path: str, ann: User, api: httpx.Client) -> None:
    answer = api.post(path, json={"refresh": ODD[name]()})

    assert (answer.status_code, code(answer)) == (401, "token_invalid")


def test_an_expired_refresh_token_is_told_apart(ann: User, api: httpx.Client) -> None:
    answer = api.post("/auth/refresh", json={"refresh": good_refresh(exp=1)})

    assert (answer.status_code, code(answer)) == (401, "token_expired")


@pytest.mark.parametrize("body", [{}, {"refresh": ""}, {"refresh": None}, {"refresh": {}}, []], ids=repr)
@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout"])
@pytest.mark.writes_nothing
def test_a_body_without_a_refresh_token_is_a_400(path: str, body: object, api: httpx.Client) -> None:
    answer = api.post(path, json=body)

    assert answer.status_code == 400
    assert code(answer)


# Clocks


@pytest.mark.parametrize("dates", [{"iat": 5}, {"nbf": 5}, {"iat": 5, "nbf": 5}, {"exp": -1}], ids=str)
def test_clocks_of_two_hosts_may_differ_by_some_seconds(dates: dict[str, int], ann: User, api: httpx.Client) -> None:
    now = int(time.time())
    moved = {name: now + by_s for name, by_s in dates.items()}
    belongs = {name: payload(str(AccountToken.for_user(ann)))[name] for name in ("account", "session_auth_hash")}

    scored = api.post("/scores/increment", json={"points": 1}, headers=bearer(signed(claims(**moved))))
    refreshed = use(api, good_refresh(**belongs, **moved))

    assert (scored.status_code, refreshed.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("dates", "expected"),
    [({"iat": 60}, "token_invalid"), ({"nbf": 60}, "token_invalid"), ({"exp": -11}, "token_expired")],
    ids=str,
)
@pytest.mark.writes_nothing
def test_clocks_may_not_differ_by_more(dates: dict[str, int], expected: str, api: httpx.Client) -> None:
    now = int(time.time())
    moved = {name: now + by_s for name, by_s in dates.items()}

    scored = api.post("/scores/increment", json={"points": 1}, headers=bearer(signed(claims(**moved))))

    assert (scored.status_code, code(scored)) == (401, expected)
    assert code(use(api, good_refresh(**moved))) == expected


# Remembering


def test_a_verified_token_is_remembered_and_the_oldest_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "MAX_CACHED_TOKENS", 2)
    remembered: dict[str, authentication.Principal] = {}
    monkeypatch.setattr(authentication, "_cache", remembered)
    tokens = [signed(claims(user_id=name)) for name in ("ann", "bob", "cid")]

    names = [authentication.verify_token(token).user_id for token in [*tokens, *tokens]]

    assert names == ["ann", "bob", "cid"] * 2
    assert list(remembered) == tokens[1:]


def test_a_long_token_is_verified_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[str, authentication.Principal] = {}
    monkeypatch.setattr(authentication, "_cache", remembered)

    assert authentication.verify_token(signed(claims(comment="x" * 3_000))).user_id == "ann"
    assert remembered == {}


def test_what_is_not_valid_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[str, authentication.Principal] = {}
    monkeypatch.setattr(authentication, "_cache", remembered)

    for token in ("garbage", signed(claims(exp=1)), signed(claims(user_id=7))):
        with pytest.raises(AuthenticationFailed):
            authentication.verify_token(token)

    assert remembered == {}


# Key pairs


def ed25519() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def rsa() -> Any:
    return generate_private_key(65_537, 2_048)


@pytest.fixture(scope="module", params=[ed25519, rsa], ids=["EdDSA", "RS256"])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The PEMs of a private and its public key."""
    private = request.param()
    return (
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    )


@pytest.fixture(scope="module")
def _pair_server(pair: tuple[str, str], _server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "JWT_PRIVATE_KEY": pair[0], "JWT_PUBLIC_KEY": pair[1]}
    server = Server(log=tmp_path_factory.mktemp("pair") / "log", env=env).start()
    yield server
    server.stop()


@pytest.fixture
def pair_api(_pair_server: Server, board: None) -> Iterator[httpx.Client]:
    """A client of a server that signs with a key pair."""
    with httpx.Client(base_url=f"{_pair_server.url}/api/v1", verify=False, timeout=30) as client:
        yield client


def test_a_server_with_a_key_pair_takes_the_tokens_that_it_issues(pair_api: httpx.Client) -> None:
    tokens = pair_api.post("/auth/register", json={"username": "ann", "password": PASSWORD}).json()

    refreshed = pair_api.post("/auth/refresh", json={"refresh": tokens["refresh"]}).json()
    scored = pair_api.post("/scores/increment", json={"points": 10}, headers=bearer(refreshed["access"]))

    assert (scored.status_code, scored.json()) == (200, {"success": True, "newScore": 10})


def test_a_public_key_is_no_secret(pair: tuple[str, str], pair_api: httpx.Client) -> None:
    """The oldest trick: an HMAC with the public key, which a server that lets the header choose would verify."""
    forged = signed(claims(), key=pair[1])

    answer = pair_api.post("/scores/increment", json={"points": 10}, headers=bearer(forged))

    assert (answer.status_code, code(answer)) == (401, "token_invalid")
    assert not ScoreEvent.objects.exists()


def test_a_token_of_another_key_is_refused(pair_api: httpx.Client) -> None:
    answer = pair_api.post("/scores/increment", json={"points": 10}, headers=bearer(str(AccessToken())))

    assert (answer.status_code, code(answer)) == (401, "token_invalid")
