"""Tokens that no honest issuer makes, signed by hand: libraries refuse to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from rest_framework_simplejwt.tokens import RefreshToken

HS256 = {"alg": "HS256", "typ": "JWT"}
UNSIGNED = {"alg": "none", "typ": "JWT"}
FOREIGN_KEY = "k" * 48


def claims(**changed: Any) -> dict[str, Any]:
    """Those of a good access token for ann, but for what is `changed`; `...` leaves a claim out."""
    now = int(time.time())
    whole = {"token_type": "access", "user_id": "ann", "jti": "1", "iat": now, "exp": now + 600} | changed
    return {name: value for name, value in whole.items() if value is not ...}


def signed(payload: Any, *, header: Any = HS256, key: str | None = None) -> str:
    """A JWS with the HMAC of `key`, by default the service's own, whatever its header says."""
    return sealed(json.dumps(header), json.dumps(payload), key=key)


def sealed(header: str, payload: str, *, key: str | None = None) -> str:
    """The same for texts, which need not be JSON."""
    secret: str = settings.SIMPLE_JWT["SIGNING_KEY"] if key is None else key
    body = f"{_part(header)}.{_part(payload)}"
    return f"{body}.{_part(hmac.digest(secret.encode(), body.encode(), hashlib.sha256))}"


def _part(content: str | bytes) -> str:
    raw = content if isinstance(content, bytes) else content.encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def nested_header(depth: int) -> str:
    """A token whose header is nothing but brackets. It needs no signature: headers are read before one is looked at."""
    return f"{_part('[' * depth)}.{_part('{}')}.{_part('-')}"


def unsigned(alg: str) -> str:
    return signed(claims(), header={"alg": alg, "typ": "JWT"}).rpartition(".")[0] + "."


def by_its_own_key() -> str:
    """A token that brings the key to verify it with, as RFC 7515 lets it."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": _part(public)}
    body = f"{_part(json.dumps({'alg': 'EdDSA', 'jwk': jwk}))}.{_part(json.dumps(claims()))}"
    return f"{body}.{_part(private.sign(body.encode()))}"


def with_one_bit_changed() -> str:
    """A good token, but for the first bit of its signature."""
    body, _, signature = signed(claims()).rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    raw[0] ^= 1
    return f"{body}.{_part(bytes(raw))}"


def with_another_payload() -> str:
    header, _, signature = signed(claims(user_id="bob")).split(".")
    return f"{header}.{_part(json.dumps(claims()))}.{signature}"


def foreign(**header: Any) -> str:
    """Signed with a key that is not ours, under a header that says where to find it or how to read it."""
    return signed(claims(), header=HS256 | header, key=FOREIGN_KEY)


GOOD_HEADER = json.dumps(HS256)


def good_claims() -> str:
    return json.dumps(claims())


# Each is 401 `token_invalid` as an access token, and writes nothing.
FORGED: dict[str, Callable[[], str]] = {
    # No tokens at all
    "nothing": lambda: "",
    "not a token": lambda: "garbage",
    "three dots": lambda: "...",
    "two dots": lambda: "..",
    "one part": lambda: signed(claims()).split(".")[0],
    "two parts": lambda: signed(claims()).rpartition(".")[0],
    "four parts": lambda: f"{signed(claims())}.{_part('more')}",
    "five parts, as if encrypted": lambda: ".".join([_part('{"alg":"dir","enc":"A128GCM"}'), "", "YQ", "YQ", "YQ"]),
    "of 64 KiB": lambda: "a" * 65_000,
    "of 60 KiB, signed by somebody else": lambda: signed(claims(comment="x" * 42_000), key=FOREIGN_KEY),
    "JSON in its place": lambda: json.dumps(claims()),
    "in quotes": lambda: f'"{signed(claims())}"',
    "a blank inside": lambda: signed(claims()).replace(".", ". ", 1),
    "a comma and another one": lambda: f"{signed(claims())}, {signed(claims())}",
    "Bearer twice": lambda: f"Bearer {signed(claims())}",
    # Signatures
    "signature cut": lambda: signed(claims())[:-4],
    "signature empty": lambda: signed(claims()).rpartition(".")[0] + ".",
    "signature of one bit less": with_one_bit_changed,
    "signature of another payload": with_another_payload,
    "signature not Base64": lambda: signed(claims()).rpartition(".")[0] + ".!!!!",
    "header cut": lambda: signed(claims())[1:],
    "wrong key": lambda: signed(claims(), key=FOREIGN_KEY),
    "empty key": lambda: signed(claims(), key=""),
    "key null": lambda: signed(claims(), key="null"),
    # Algorithms
    "alg none": lambda: signed(claims(), header=UNSIGNED),
    "alg none, signature cut": lambda: unsigned("none"),
    "alg None": lambda: unsigned("None"),
    "alg NONE": lambda: unsigned("NONE"),
    "alg nOnE": lambda: unsigned("nOnE"),
    "alg empty": lambda: unsigned(""),
    "alg missing": lambda: signed(claims(), header={"typ": "JWT"}),
    "alg null": lambda: signed(claims(), header={"alg": None}),
    "alg of odd type": lambda: signed(claims(), header={"alg": {}}),
    "alg a list": lambda: signed(claims(), header={"alg": ["HS256"]}),
    "alg in lower case": lambda: signed(claims(), header={"alg": "hs256"}),
    "alg HS384": lambda: signed(claims(), header={"alg": "HS384"}),
    "alg HS512": lambda: signed(claims(), header={"alg": "HS512"}),
    "alg RS256": lambda: signed(claims(), header={"alg": "RS256"}),
    "alg twice, none last": lambda: sealed('{"alg": "HS256", "alg": "none"}', good_claims()),
    # Headers
    "header empty": lambda: sealed("{}", good_claims()),
    "header a list": lambda: sealed("[]", good_claims()),
    "header not JSON": lambda: sealed("alg", good_claims()),
    "header not UTF-8": lambda: _part(b"\xff\xfe") + "." + signed(claims()).partition(".")[2],
    "header of a thousand brackets": lambda: nested_header(10_000),
    "header with a key of its own": by_its_own_key,
    "kid of a file": lambda: foreign(kid="../../../../dev/null"),
    "kid of a query": lambda: foreign(kid="x' UNION SELECT 'kkkk"),
    "kid a number": lambda: signed(claims(), header=HS256 | {"kid": 7}),
    "jku": lambda: foreign(jku="http://127.0.0.1:9/keys.json", kid="1"),
    "x5u": lambda: foreign(x5u="http://127.0.0.1:9/cert.pem"),
    "jwk of the same kind": lambda: foreign(jwk={"kty": "oct", "k": _part(FOREIGN_KEY)}),
    "crit unknown": lambda: signed(claims(), header=HS256 | {"crit": ["exp"], "exp": 1}),
    "crit empty": lambda: signed(claims(), header=HS256 | {"crit": []}),
    "b64 false": lambda: signed(claims(), header=HS256 | {"b64": False}),
    "b64 false and critical": lambda: signed(claims(), header=HS256 | {"b64": False, "crit": ["b64"]}),
    # Payloads
    "payload a list": lambda: signed([1]),
    "payload null": lambda: signed(None),
    "payload a number": lambda: signed(7),
    "payload not JSON": lambda: sealed(GOOD_HEADER, "ann"),
    "payload empty": lambda: sealed(GOOD_HEADER, ""),
    "payload of a thousand brackets": lambda: sealed(GOOD_HEADER, "[" * 10_000),
    "payload a token": lambda: sealed(json.dumps(HS256 | {"cty": "JWT"}), signed(claims())),
    # Claims
    "refresh token": lambda: str(RefreshToken()),
    "type missing": lambda: signed(claims(token_type=...)),
    "type null": lambda: signed(claims(token_type=None)),
    "type a list": lambda: signed(claims(token_type=["access"])),
    "type in upper case": lambda: signed(claims(token_type="ACCESS")),
    "user_id missing": lambda: signed(claims(user_id=...)),
    "user_id null": lambda: signed(claims(user_id=None)),
    "user_id empty": lambda: signed(claims(user_id="")),
    "user_id true": lambda: signed(claims(user_id=True)),
    "user_id number": lambda: signed(claims(user_id=7)),
    "user_id object": lambda: signed(claims(user_id={})),
    "user_id list": lambda: signed(claims(user_id=["ann"])),
    "user_id of 256": lambda: signed(claims(user_id="a" * 256)),
    "user_id with NUL": lambda: signed(claims(user_id="a\0b")),
    "user_id with newline": lambda: signed(claims(user_id="ann\n")),
    "user_id with C1 control": lambda: signed(claims(user_id="é\x85")),
    "user_id half an emoji": lambda: signed(claims(user_id="\ud83d")),
    "user_id with U+FFFD": lambda: signed(claims(user_id="M\ufffdller")),
    "user_id not NFC": lambda: signed(claims(user_id="e\u0301")),
    "exp missing": lambda: signed(claims(exp=...)),
    "exp null": lambda: signed(claims(exp=None)),
    "exp text": lambda: signed(claims(exp="tomorrow")),
    "exp digits": lambda: signed(claims(exp="99999999999")),
    "exp 1e308": lambda: signed(claims(exp=1e308)),
    "exp in year 10000": lambda: signed(claims(exp=253_402_300_800)),
    "exp 10^18": lambda: signed(claims(exp=10**18)),
    "exp 2^62": lambda: signed(claims(exp=2**62)),
    "exp infinite": lambda: signed(claims(exp=float("inf"))),
    "exp NaN": lambda: signed(claims(exp=float("nan"))),
    "exp object": lambda: signed(claims(exp={})),
    "exp list": lambda: signed(claims(exp=[99_999_999_999])),
    "nbf in the future": lambda: signed(claims(nbf=99_999_999_999)),
    "nbf text": lambda: signed(claims(nbf="x")),
    "nbf digits": lambda: signed(claims(nbf="1")),
    "nbf null": lambda: signed(claims(nbf=None)),
    "nbf true": lambda: signed(claims(nbf=True)),
    "nbf 2^62": lambda: signed(claims(nbf=2**62)),
    "nbf 1e308": lambda: signed(claims(nbf=1e308)),
    "iat in the future": lambda: signed(claims(iat=99_999_999_999)),
    "iat 2^62": lambda: signed(claims(iat=2**62)),
    "iat text": lambda: signed(claims(iat="x")),
    "iat digits": lambda: signed(claims(iat="1")),
    "iat true": lambda: signed(claims(iat=True)),
    "iat list": lambda: signed(claims(iat=[1])),
    "iat infinite": lambda: signed(claims(iat=float("-inf"))),
    "jti missing": lambda: signed(claims(jti=...)),
    "jti null": lambda: signed(claims(jti=None)),
    "jti object": lambda: signed(claims(jti={})),
    "sub a number": lambda: signed(claims(sub=7)),
}
