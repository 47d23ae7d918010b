"""The public keys of an external identity provider, fetched in a separate thread and never by a request."""

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

# Only asymmetric ones, of which the service has the public half: with an HMAC, every verifier could also sign.
ALGORITHMS = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"))
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
FETCH_TIMEOUT_S = 2.0  # for a whole fetch
MAX_BYTES = 256 * 1024
MIN_INTERVAL_S = 10.0  # between two fetches
MAX_AGE_S = 300.0  # older keys are fetched again, so a key that the provider has withdrawn is dropped
WAIT_TIMEOUT_S = 2.5  # of a request that waits for a fetch


class _NoRedirect(HTTPRedirectHandler):
    """Refuses redirects: only the configured URL is trusted."""

    def redirect_request(self, *args: Any) -> None:
        return None


# Ignores a proxy in the environment as well, which may be set for other software.
_opener = build_opener(_NoRedirect, ProxyHandler({}))


class JwksClient:
    """The keys at `url`. `changed` is called in another thread when a key has disappeared or was replaced.

    There is at most one fetch in `MIN_INTERVAL_S`, even if many tokens name unknown keys.
    """

    def __init__(self, url: str, changed: Callable[[], None]) -> None:
        self._url = url
        self._changed = changed
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at: float | None = None  # the last successful fetch, monotonic seconds
        self._next_at = 0.0  # the earliest start of the next fetch, monotonic seconds
        self._done = threading.Event()
        self._done.set()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._lock = threading.Lock()

    def key(self, kid: str) -> PyJWK | None:
        """The key with this id, from memory; `None` if the provider has none.

        Raises `KeyAwaited` during a fetch that may bring the key, and until the provider has answered once.
        """
        key = self._keys.get(kid)
        if key is None:
            if self._start_fetch() or not self._done.is_set() or self._fetched_at is None:
                raise KeyAwaited
            return self._keys.get(kid)  # again: a fetch may have ended since the first look-up
        if self._fetched_at is not None and time.monotonic() - self._fetched_at > MAX_AGE_S:
            self._start_fetch()  # and use the old key until then
        return key

    async def fetched(self) -> None:
        """Return when the current fetch has ended, or after `WAIT_TIMEOUT_S`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._done.is_set():
                return
            self._waiting.append((loop, future))
        await asyncio.wait({future}, timeout=WAIT_TIMEOUT_S)

    def _start_fetch(self) -> bool:
        now = time.monotonic()
        with self._lock:
            if now < self._next_at or not self._done.is_set():
                return False
            self._next_at = now + MIN_INTERVAL_S
            self._done.clear()
        threading.Thread(target=self._fetch_keys, name="jwks", daemon=True).start()
        return True

    def _fetch_keys(self) -> None:
        try:
            keys = signature_keys(_fetch(self._url))
            if not keys:
                raise ValueError("it contains no usable key")
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            # The old keys stay: an outage of the provider must not lock all users out.
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
                except RuntimeError:  # the loop is closed
                    pass


def signature_keys(document: Any) -> dict[str, PyJWK]:
    """The signature keys of a JWK Set (RFC 7517) by key id; everything else in it is ignored."""
    members = document.get("keys") if isinstance(document, dict) else None
    keys: dict[str, PyJWK] = {}
    for member in members if isinstance(members, list) else []:
        if not isinstance(member, dict) or not isinstance(member.get("kid"), str):
            continue
        if member.get("kty") not in ("RSA", "EC", "OKP") or member.get("alg", "RS256") not in ALGORITHMS:
            continue
        if member.get("use", "sig") != "sig" or "d" in member:  # a published private key is compromised
            continue
        try:
            key = PyJWK(member)
        except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            continue
        if key.algorithm_name not in ALGORITHMS or getattr(key.key, "key_size", MIN_RSA_BITS) < _min_bits(key):
            continue
        keys[member["kid"]] = key
    return keys


def _min_bits(key: PyJWK) -> int:
    return MIN_RSA_BITS if key.key_type == "RSA" else 0


def _fetch(url: str) -> Any:
    """The JSON at `url`, within `FETCH_TIMEOUT_S` and `MAX_BYTES`."""
    deadline = time.monotonic() + FETCH_TIMEOUT_S
    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310  see settings
    body = b""
    with _opener.open(request, timeout=FETCH_TIMEOUT_S) as response:
        while part := response.read1(65_536):
            body += part
            if len(body) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"took longer than {FETCH_TIMEOUT_S:g} s")
    return json.loads(body)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
