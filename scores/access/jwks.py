"""The public keys of an external identity provider, fetched in a separate thread and never by a request."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from typing import Any
from urllib.parse import urlsplit

from jwt import PyJWK, PyJWTError

from scores.exceptions import KeyAwaited

logger = logging.getLogger(__name__)

# Only asymmetric ones, of which the service has the public half: with an HMAC, every verifier could also sign.
ALGORITHMS = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"))
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
FETCH_TIMEOUT_S = 2.0  # for a whole fetch, from the first connection to the last byte
MAX_BYTES = 256 * 1024
MIN_INTERVAL_S = 10.0  # between two fetches
MAX_AGE_S = 300.0  # older keys are fetched again, so a key that the provider has withdrawn is dropped
WAIT_TIMEOUT_S = 2.5  # of a request that waits for a fetch


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
        self.generation = 0  # grows before `changed` is called
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
        self.renew()
        return key

    def renew(self) -> None:
        """Starts a fetch if the keys are older than `MAX_AGE_S`; until it has ended they stay in use.

        Whoever accepts a token without a look at its key calls this, or a withdrawn key would be believed for as long.
        """
        if self._fetched_at is not None and time.monotonic() - self._fetched_at > MAX_AGE_S:
            self._start_fetch()

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
                self.generation += 1
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
    """The JSON at `url`, within `FETCH_TIMEOUT_S` and `MAX_BYTES`.

    By `http.client`, which follows no redirect, since only the configured URL is trusted, and uses no proxy that the
    environment may name for other software.
    """
    deadline = _Deadline(FETCH_TIMEOUT_S)
    parts = urlsplit(url)
    connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connection_class(parts.hostname or "", parts.port)
    connection.response_class = partial(_TimedResponse, deadline)  # type: ignore[assignment]  # made from it, not a class
    headers = {"Accept": "application/jwk-set+json, application/json", "User-Agent": "leaderboard"}
    try:
        connection.sock = _connected(parts.scheme, connection.host, connection.port, deadline)
        connection.request("GET", f"{parts.path or '/'}{parts.query and '?'}{parts.query}", headers=headers)
        response = connection.getresponse()
        with response:
            if response.status != HTTPStatus.OK:
                raise ValueError(f"it answers {response.status}")
            body = response.read(MAX_BYTES + 1)
    finally:
        connection.close()
    if len(body) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return json.loads(body)


class _Deadline:
    def __init__(self, after_s: float) -> None:
        self._at = time.monotonic() + after_s

    def left_s(self) -> float:
        """The timeout of the next step. Raises `TimeoutError` when there is none left."""
        left_s = self._at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"took longer than {FETCH_TIMEOUT_S:g} s")
        return left_s


def _connected(scheme: str, host: str, port: int, deadline: _Deadline) -> socket.socket:
    """A socket to the first address of `host` that answers; the library would allow its timeout to each of them."""
    error: OSError = OSError(f"{host} has no address")
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(deadline.left_s() / (len(addresses) - number))
            connection.connect(address)
            connection.settimeout(deadline.left_s())
            if scheme == "https":
                return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
            return connection
        except OSError as failure:
            connection.close()
            error = failure
    raise error


class _TimedResponse(HTTPResponse):
    """Each read, of the headers too, has what is left until the deadline, so a provider that drips holds up nobody."""

    def __init__(self, deadline: _Deadline, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = BufferedReader(_TimedReader(deadline, sock))


class _TimedReader(RawIOBase):
    def __init__(self, deadline: _Deadline, sock: socket.socket) -> None:
        self._deadline = deadline
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed itself

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left_s())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
