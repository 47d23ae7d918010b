"""The public keys of an external identity provider: fetched beside the requests, never by one of them."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from jwt import PyJWK, PyJWTError

from scores.exceptions import KeyAwaited

logger = logging.getLogger(__name__)

# Of each only the public half is known here: with an HMAC, whoever can verify could sign.
ALGORITHMS = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"))
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
FETCH_S = 2.0  # for a whole fetch
MAX_BYTES = 256 * 1024
AGAIN_AFTER_S = 10.0  # between two fetches, whatever is asked for
RENEW_AFTER_S = 300.0  # a key that the provider has withdrawn is forgotten by then
WAIT_S = 2.5  # of a request for a fetch that is due or under way


class _NoRedirect(HTTPRedirectHandler):
    """The address is pinned: another one that it names would be somebody else's."""

    def redirect_request(self, *args: Any) -> None:
        return None


# Not by way of a proxy that the environment names either, which other software may have set for its own ends.
_opener = build_opener(_NoRedirect, ProxyHandler({}))


class JwksClient:
    """The keys at `url`. `changed` is called in another thread when one of them is gone or another.

    However many tokens name unknown keys, there is at most one fetch in `AGAIN_AFTER_S`.
    """

    def __init__(self, url: str, changed: Callable[[], None]) -> None:
        self._url = url
        self._changed = changed
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at: float | None = None  # the last time that it brought keys
        self._next_at = 0.0  # monotonic seconds; not before
        self._done = threading.Event()
        self._done.set()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._lock = threading.Lock()

    def key(self, kid: str) -> PyJWK | None:
        """The key of that name, from memory; `None` if the provider has none.

        Raises `KeyAwaited` while a fetch that may bring it is under way, and until the provider has answered once.
        """
        key = self._keys.get(kid)
        if key is None:
            if self._begin() or not self._done.is_set() or self._fetched_at is None:
                raise KeyAwaited
            return self._keys.get(kid)  # once more: a fetch may have ended between the two looks
        if self._fetched_at is not None and time.monotonic() - self._fetched_at > RENEW_AFTER_S:
            self._begin()  # and go on with what there is
        return key

    async def fetched(self) -> None:
        """Return when the fetch under way has ended, or after `WAIT_S`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._done.is_set():
                return
            self._waiting.append((loop, future))
        await asyncio.wait({future}, timeout=WAIT_S)

    def _begin(self) -> bool:
        now = time.monotonic()
        with self._lock:
            if now < self._next_at or not self._done.is_set():
                return False
            self._next_at = now + AGAIN_AFTER_S
            self._done.clear()
        threading.Thread(target=self._renew, name="provider", daemon=True).start()
        return True

    def _renew(self) -> None:
        try:
            keys = usable(_fetch(self._url))
            if not keys:
                raise ValueError("there is no key in it that could be used")
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            # The old ones stay: a provider that is away for a while must not lock everybody out.
            logger.warning("The keys of the identity provider could not be fetched: %s", error)
        else:
            before, self._keys = self._keys, keys
            self._fetched_at = time.monotonic()
            if any(kid not in keys or keys[kid].key != key.key for kid, key in before.items()):
                self._changed()
        finally:
            with self._lock:
                self._done.set()
                waiting, self._waiting = self._waiting, []
            for loop, future in waiting:
                try:
                    loop.call_soon_threadsafe(_resolve, future)
                except RuntimeError:  # the loop was closed meanwhile
                    pass


def usable(document: Any) -> dict[str, PyJWK]:
    """The signature keys of a JWK Set (RFC 7517) by their ids; what else is in it is left out."""
    members = document.get("keys") if isinstance(document, dict) else None
    keys: dict[str, PyJWK] = {}
    for member in members if isinstance(members, list) else []:
        if not isinstance(member, dict) or not isinstance(member.get("kid"), str):
            continue
        if member.get("kty") not in ("RSA", "EC", "OKP") or member.get("alg", "RS256") not in ALGORITHMS:
            continue
        if member.get("use", "sig") != "sig" or "d" in member:  # a private key is nothing to publish
            continue
        try:
            key = PyJWK(member)
        except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            continue
        if key.algorithm_name not in ALGORITHMS or getattr(key.key, "key_size", MIN_RSA_BITS) < _least_bits(key):
            continue
        keys[member["kid"]] = key
    return keys


def _least_bits(key: PyJWK) -> int:
    return MIN_RSA_BITS if key.key_type == "RSA" else 0


def _fetch(url: str) -> Any:
    """The JSON at `url`, within `FETCH_S` and `MAX_BYTES`."""
    deadline = time.monotonic() + FETCH_S
    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310  see settings
    body = b""
    with _opener.open(request, timeout=FETCH_S) as answer:
        while part := answer.read1(65_536):
            body += part
            if len(body) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not there within {FETCH_S:g} s")
    return json.loads(body)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
