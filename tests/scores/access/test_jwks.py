"""Tokens of an external identity provider: whose keys are fetched, which are believed, and how often anybody asks."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.models import User
from jwt.algorithms import get_default_algorithms

from scores.access import authentication, jwks
from scores.access.jwks import JwksClient, signature_keys
from scores.exceptions import KeyAwaited
from scores.models import ScoreEvent
from tests.conftest import TokenFor
from tests.polling import until
from tools.servers import Server

from .forgery import signed

ISSUER, AUDIENCE = "https://id.example.org", "leaderboard"
RSA = rsa.generate_private_key(65_537, 2048)
KEYS: dict[str, tuple[Any, str]] = {
    "rsa": (RSA, "RS256"),
    "ec": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "ed": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
}


def jwk(kid: str, key: Any, algorithm: str) -> dict[str, Any]:
    public: Any = get_default_algorithms()[algorithm]
    return dict(json.loads(public.to_jwk(key.public_key()))) | {"kid": kid, "use": "sig", "alg": algorithm}


class Site:
    """An identity provider's address for its keys, on a real socket."""

    def __init__(self) -> None:
        self.body = json.dumps({"keys": [jwk(kid, *key) for kid, key in KEYS.items()]}).encode()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.open = threading.Event()  # nobody is answered before
        self.open.set()
        self.drips = b""  # sent instead of an answer, for ever, a byte at a time
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked += 1
                site.open.wait(30)
                if site.drips:
                    return self.drip()
                self.send_response(site.status)
                for name, value in site.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(site.body)

            def drip(self) -> None:
                start, _, rest = site.drips.partition(b"|")
                with suppress(OSError):
                    self.wfile.write(start)
                    while site.drips:
                        for number in range(len(rest)):
                            self.wfile.write(rest[number : number + 1])
                            time.sleep(0.005)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/keys.json"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.open.set()
        self.drips = b""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def trusted_site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="module")
def _trusting(trusted_site: Site, _server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": _server.env["DATABASE_URL"], "JWKS_URL": trusted_site.url}
    env |= {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}
    server = Server(log=tmp_path_factory.mktemp("trusting") / "log", env=env).start()
    yield server
    server.stop()


@pytest.fixture
def trusting(_trusting: Server, board: None) -> Iterator[httpx.Client]:
    """A client of a server that trusts the provider."""
    with httpx.Client(base_url=f"{_trusting.url}/api/v1", verify=False, timeout=30) as client:
        yield client


def token(kid: str = "rsa", *, headers: dict[str, Any] | None = None, **changed: Any) -> str:
    """A provider's token for ann; `...` leaves a claim out."""
    now = int(time.time())
    claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600} | changed
    key, algorithm = KEYS[kid]
    claims = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} | (headers or {}))


def score(client: httpx.Client, text: str) -> httpx.Response:
    return client.post("/scores/increment", json={"points": 10}, headers={"Authorization": f"Bearer {text}"})


# What is taken


@pytest.mark.parametrize("kid", KEYS)
def test_a_token_of_the_provider_is_worth_as_much_as_ours(kid: str, trusting: httpx.Client) -> None:
    answer = score(trusting, token(kid))

    assert (answer.status_code, answer.json()) == (200, {"success": True, "newScore": 10})
    assert ScoreEvent.objects.get().user_id == "ann"


def test_it_may_be_for_several_audiences_and_a_moment_ahead(trusting: httpx.Client) -> None:
    assert score(trusting, token(aud=["other", AUDIENCE], iat=int(time.time()) + 5)).status_code == 200


def test_it_may_have_a_scope(trusting: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {token(scope='openid scores:write:any')}"}

    assert trusting.post("/users/bob/scores/increment", json={"points": 1}, headers=headers).status_code == 200
    assert ScoreEvent.objects.get().actor == "service:ann"


def test_its_subjects_can_have_a_namespace_of_their_own(
    trusted_site: Site, server: Server, tmp_path: Path, token_for: TokenFor
) -> None:
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "JWKS_URL": trusted_site.url, "JWKS_SUBJECT_PREFIX": "idp:"}
    env |= {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}
    prefixing = Server(log=tmp_path / "log", env=env).start()
    claims = {"iss": ISSUER, "aud": AUDIENCE}
    tokens = {
        "idp:ann": token(),
        "idp:service:arena": token(sub="service:arena"),
        "ann": token_for("ann", **claims),
    }
    try:
        with httpx.Client(base_url=f"{prefixing.url}/api/v1", verify=False, timeout=30) as client:
            assert {user: score(client, text).status_code for user, text in tokens.items()} == dict.fromkeys(
                tokens, 200
            )
            too_long = score(client, token(sub="x" * 252))
            nobody = score(client, token(sub=""))
    finally:
        prefixing.stop()

    assert set(ScoreEvent.objects.values_list("user_id", flat=True)) == set(tokens)
    assert (too_long.status_code, nobody.status_code) == (401, 401)


def test_a_subject_with_the_name_of_an_administrator_is_none(trusting: httpx.Client, token_for: TokenFor) -> None:
    User.objects.create_user("root", is_staff=True)
    claims = {"iss": ISSUER, "aud": AUDIENCE}
    theirs, ours = token(sub="root"), token_for("root", **claims)
    of_service = token_for("root", scope="scores:write:any", **claims)
    assert score(trusting, token()).status_code == 200  # the keys are fetched; a sync view does not wait for them

    deep = trusting.base_url.join("/healthz/deep")
    statuses = [
        trusting.get(deep, headers={"Authorization": f"Bearer {text}"}).status_code
        for text in (theirs, of_service, ours)
    ]

    assert statuses[:2] == [403, 403]
    assert statuses[2] in (200, 503)  # what it says of the stores is not the question


# What is refused

OTHER = rsa.generate_private_key(65_537, 2048)
PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
HMAC = {"alg": "HS256", "typ": "JWT", "kid": "rsa"}


def whole(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600} | changed


def by_another(**headers: Any) -> str:
    return jwt.encode(whole(), OTHER, "RS256", headers={"kid": "rsa"} | headers)


FORGED: dict[str, Callable[[], str]] = {
    "another key": lambda: by_another(),
    "another key at its own jku": lambda: by_another(jku="http://127.0.0.1:9/keys.json"),
    "another key at its own x5u": lambda: by_another(x5u="http://127.0.0.1:9/cert.pem"),
    "another key that it brings along": lambda: by_another(jwk=jwk("rsa", OTHER, "RS256")),
    "kid of nobody": lambda: token(headers={"kid": "nobody"}),
    "kid of another kind": lambda: token(headers={"kid": "ec"}),
    "kid empty": lambda: token(headers={"kid": ""}),
    "no kid": lambda: jwt.encode(whole(), RSA, "RS256"),
    "another algorithm of the key": lambda: jwt.encode(whole(), RSA, "RS512", headers={"kid": "rsa"}),
    "padding of another algorithm": lambda: jwt.encode(whole(), RSA, "PS256", headers={"kid": "rsa"}),
    "HMAC with the public key": lambda: signed(whole(), header=HMAC, key=PUBLIC_PEM),
    "HMAC with our own key": lambda: signed(whole(user_id="ann", token_type="access", jti="1"), header=HMAC),
    "alg none": lambda: signed(whole(), header={"alg": "none", "kid": "rsa"}).rpartition(".")[0] + ".",
    "iss missing": lambda: token(iss=...),
    "iss of another": lambda: token(iss="https://evil.example.org"),
    "iss with a slash more": lambda: token(iss=f"{ISSUER}/"),
    "signature of another": lambda: token()[:-8] + "AAAAAAAA",
    "aud missing": lambda: token(aud=...),
    "aud of another": lambda: token(aud="shop"),
    "aud empty": lambda: token(aud=[]),
    "aud a number": lambda: token(aud=7),
    "sub missing": lambda: token(sub=...),
    "sub empty": lambda: token(sub=""),
    "sub with NUL": lambda: token(sub="a\0"),
    "sub of a service": lambda: token(sub="service:arena"),
    "sub of 256": lambda: token(sub="a" * 256),
    "exp missing": lambda: token(exp=...),
    "exp text": lambda: token(exp="99999999999"),
    "exp in year 10000": lambda: token(exp=253_402_300_800),
    "exp 2^62": lambda: token(exp=2**62),
    "nbf 2^62": lambda: token(nbf=2**62),
    "iat 2^62": lambda: token(iat=2**62),
    "nbf ahead": lambda: token(nbf=int(time.time()) + 3600),
    "iat ahead": lambda: token(iat=int(time.time()) + 3600),
    "scope list": lambda: token(scope=["scores:write:any"]),
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.writes_nothing
def test_what_the_provider_did_not_make_for_us_is_refused(name: str, trusting: httpx.Client) -> None:
    answer = score(trusting, FORGED[name]())

    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


@pytest.mark.writes_nothing
def test_its_expired_tokens_are_told_apart(trusting: httpx.Client) -> None:
    assert score(trusting, token(exp=int(time.time()) - 60)).json()["code"] == "token_expired"


@pytest.mark.writes_nothing
def test_our_own_tokens_without_issuer_and_audience_are_refused(
    trusting: httpx.Client, token_for: Callable[..., str]
) -> None:
    assert score(trusting, token_for("ann")).status_code == 401


@pytest.mark.writes_nothing
def test_without_a_provider_its_tokens_are_worth_nothing(api: httpx.Client) -> None:
    assert score(api, token()).status_code == 401


# How often it is asked


def test_a_flood_of_unknown_keys_is_one_question_in_ten_seconds(trusting: httpx.Client, trusted_site: Site) -> None:
    score(trusting, token())
    began, before = time.monotonic(), trusted_site.asked

    def forge(number: int) -> int:
        return score(trusting, token(headers={"kid": f"k{number}"})).status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = set(pool.map(forge, range(300)))

    assert statuses == {401}
    assert trusted_site.asked - before <= 1 + (time.monotonic() - began) // jwks.MIN_INTERVAL_S


async def known(keys: JwksClient, kid: str) -> bool:
    """Whether a request that comes with that key, and waits if it is told to, is let in."""
    try:
        return keys.key(kid) is not None
    except KeyAwaited:
        await keys.fetched()
        return keys.key(kid) is not None


async def test_a_key_that_is_new_is_found_by_the_first_who_needs_it(site: Site) -> None:
    changes: list[None] = []
    keys = JwksClient(site.url, changed=lambda: changes.append(None))
    site.body = json.dumps({"keys": [jwk("rsa", *KEYS["rsa"])]}).encode()
    assert await known(keys, "rsa")
    assert not await known(keys, "new")

    site.body = json.dumps({"keys": [jwk("new", *KEYS["ec"])]}).encode()
    keys._next_at = 0.0  # as ten seconds later

    assert await known(keys, "new")
    assert changes == [None]  # the old one is gone, and what it vouched for
    assert not await known(keys, "rsa")
    assert site.asked == 2


async def test_many_who_wait_are_one_question_and_hold_up_nobody(site: Site) -> None:
    keys = JwksClient(site.url, changed=lambda: None)
    site.open.clear()

    waiting = [asyncio.create_task(known(keys, "rsa")) for _ in range(50)]
    while not site.asked:  # noqa: ASYNC110  the provider is a thread
        await asyncio.sleep(0.005)
    assert not any(task.done() for task in waiting)  # nor did the loop stand still until they were
    site.open.set()

    assert all(await asyncio.gather(*waiting))
    assert site.asked == 1


async def test_keys_outlive_a_provider_that_is_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(jwks, "MAX_AGE_S", 0.0)
    keys = JwksClient(site.url, changed=lambda: None)
    assert await known(keys, "rsa")

    site.status = 500
    assert await known(keys, "rsa")
    until(lambda: site.asked >= 2)

    assert await known(keys, "rsa")
    await keys.fetched()


@pytest.mark.parametrize(
    "drips",
    [
        pytest.param(b"|HTTP/1.1 100 Continue\r\n\r\n", id="it is about to answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\n|X-Drip: 1\r\n", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Drip: |1", id="one header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n|[]", id="the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|1\r\n[\r\n", id="the body in chunks"),
    ],
)
async def test_a_provider_that_drips_is_left_in_time_and_asked_again(
    drips: bytes, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.2)
    keys = JwksClient(site.url, changed=lambda: None)
    site.drips = drips
    with pytest.raises(KeyAwaited):
        await known(keys, "rsa")
    await asyncio.to_thread(until, keys._done.is_set)
    assert "could not be fetched" in caplog.text

    site.drips = b""
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 30.0)
    monkeypatch.setattr(jwks, "WAIT_TIMEOUT_S", 30.0)
    keys._next_at = 0.0  # as ten seconds later

    assert await known(keys, "rsa")


async def test_a_token_that_is_remembered_ends_with_its_key(
    site: Site, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.JWT_ISSUER, settings.JWT_AUDIENCE = ISSUER, AUDIENCE
    keys = JwksClient(site.url, changed=authentication._cache.clear)
    monkeypatch.setattr(authentication, "jwks_client", keys)
    assert await known(keys, "rsa")
    text = token()
    assert authentication.verify_token(text).user_id == "ann"

    site.body = json.dumps({"keys": [jwk("new", *KEYS["ec"])]}).encode()
    keys._fetched_at, keys._next_at = time.monotonic() - jwks.MAX_AGE_S - 1, 0.0  # as five minutes later

    assert authentication.verify_token(text).user_id == "ann"  # a request does not wait for the provider
    await keys.fetched()
    with pytest.raises(authentication.TokenInvalid):
        authentication.verify_token(text)
    assert site.asked == 2


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        pytest.param(302, {"Location": "http://127.0.0.1:9/keys.json"}, b"", id="another address"),
        pytest.param(500, {}, b"", id="an error"),
        pytest.param(200, {}, b"<html>", id="a page"),
        pytest.param(200, {}, b"[]", id="a list"),
        pytest.param(200, {}, b'{"keys": {}}', id="no list"),
        pytest.param(200, {}, b"[" * 100_000, id="brackets"),
        pytest.param(200, {}, b" " * (jwks.MAX_BYTES + 1), id="too much"),
    ],
)
async def test_what_is_no_set_of_keys_is_none(
    status: int, headers: dict[str, str], body: bytes, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.status, site.headers, site.body = status, headers, body
    keys = JwksClient(site.url, changed=lambda: None)

    with pytest.raises(KeyAwaited):
        await known(keys, "rsa")

    assert "could not be fetched" in caplog.text


def test_until_the_provider_has_answered_once_it_is_a_503(site: Site, server: Server, tmp_path: Path) -> None:
    """That such a token is wrong is more than anybody knows; a client must not throw it away."""
    site.status = 500
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "JWKS_URL": site.url}
    early = Server(log=tmp_path / "log", env=env | {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}).start()

    with httpx.Client(base_url=f"{early.url}/api/v1", verify=False, timeout=30) as client:
        answer = score(client, token())
    early.stop()

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


def test_only_keys_for_signatures_that_are_long_enough_are_used() -> None:
    good = jwk("good", *KEYS["ed"])
    short = jwk("short", rsa.generate_private_key(65_537, 1024), "RS256")
    secret = {"kty": "oct", "k": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s", "kid": "secret", "alg": "HS256"}
    others = [
        jwk("enc", *KEYS["rsa"]) | {"use": "enc"},
        jwk("odd", *KEYS["rsa"]) | {"alg": "none"},
        jwk("list", *KEYS["rsa"]) | {"alg": 7},
        {**jwk("half", *KEYS["rsa"]), "n": 7},
        {name: value for name, value in good.items() if name != "kid"},
        good | {"kid": 7},
        "key",
        None,
    ]

    assert signature_keys({"keys": [short, secret, *others, good]}).keys() == {"good"}
