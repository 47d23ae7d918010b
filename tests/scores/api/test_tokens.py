"""Where tokens come from, how long they are good, and how they are taken back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.contrib.auth.models import User
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from scores.access import authentication
from scores.models import ScoreEvent
from tests.scores.access.forgery import claims, nested_header, signed
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
    return str(RefreshToken.for_user(ann))


# Registration


def test_a_new_user_gets_tokens_that_work(api: httpx.Client) -> None:
    answer = api.post("/auth/register", json={"username": "ann", "password": PASSWORD})

    assert answer.status_code == 201
    assert set(answer.json()) == {"userId", "access", "refresh"}
    assert answer.json()["userId"] == "ann"
    scored = api.post("/scores/increment", json={"points": 10}, headers=bearer(answer.json()["access"]))
    assert scored.json() == {"success": True, "newScore": 10}
    assert api.post("/auth/refresh", json={"refresh": answer.json()["refresh"]}).status_code == 200


def test_a_taken_name_is_a_conflict(ann: User, api: httpx.Client) -> None:
    answer = api.post("/auth/register", json={"username": "ann", "password": PASSWORD})

    assert (answer.status_code, code(answer)) == (409, "username_taken")


def test_of_two_who_want_a_name_at_once_one_gets_it(api: httpx.Client) -> None:
    def register(_: int) -> int:
        return api.post("/auth/register", json={"username": "ann", "password": PASSWORD}).status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(register, range(2)))

    assert statuses == [201, 409]


@pytest.mark.parametrize(
    ("username", "expected"),
    [
        pytest.param("", "username_blank", id="empty"),
        pytest.param("two words", "username_invalid", id="blank inside"),
        pytest.param("a/b", "username_invalid", id="slash"),
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


# Refreshing


def test_a_refresh_token_works_once(refresh: str, api: httpx.Client) -> None:
    new = api.post("/auth/refresh", json={"refresh": refresh})

    again = api.post("/auth/refresh", json={"refresh": refresh})

    assert (new.status_code, again.status_code) == (200, 401)
    assert code(again) == "token_invalid"
    assert api.post("/auth/refresh", json={"refresh": new.json()["refresh"]}).status_code == 200


def test_a_refresh_token_works_once_however_many_try_together(refresh: str, api: httpx.Client) -> None:
    """Whoever stole it must not get a pair beside its owner's."""

    def use(_: int) -> int:
        return api.post("/auth/refresh", json={"refresh": refresh}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(use, range(8)))

    assert statuses == [200] + [401] * 7


def test_logging_out_uses_the_refresh_token_up(refresh: str, api: httpx.Client) -> None:
    answer = api.post("/auth/logout", json={"refresh": refresh})

    assert (answer.status_code, answer.content) == (204, b"")
    assert api.post("/auth/refresh", json={"refresh": refresh}).status_code == 401
    assert api.post("/auth/logout", json={"refresh": refresh}).status_code == 401


def test_a_refresh_token_of_a_user_who_is_gone_is_worth_nothing(ann: User, refresh: str, api: httpx.Client) -> None:
    ann.delete()

    answer = api.post("/auth/refresh", json={"refresh": refresh})

    assert (answer.status_code, code(answer)) == (401, "token_invalid")


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
    "user_id nobody's": lambda: good_refresh(user_id="nobody"),
    "user_id object": lambda: good_refresh(user_id={"a": 1}),
    "user_id with NUL": lambda: good_refresh(user_id="a\0"),
    "user_id half an emoji": lambda: good_refresh(user_id="\ud83d"),
}


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout"])
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_refresh_token_is_refused(name: str, path: str, ann: User, api: httpx.Client) -> None:
    answer = api.post(path, json={"refresh": ODD[name]()})

    if (path, name) in {("/auth/logout", "user_id nobody's"), ("/auth/logout", "user_id object")}:
        assert answer.status_code == 204  # it is used up, whoever it was for
    else:
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
