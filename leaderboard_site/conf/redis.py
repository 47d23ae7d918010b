"""Redis, from the URL of a server or of its sentinels: what django-redis and channels-redis are told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.retry import Retry

EXAMPLE = "redis://user:password@host:6379/0"
SENTINEL_EXAMPLE = "redis+sentinel://user:password@host:26379,host2:26379/0?master=name"
ENCODE = "In names, passwords and values, write the characters / : @ ? # % & as %2F %3A %40 %3F %23 %25 %26."
SENTINEL_PORT = 26379
# No request waits for a sentinel. This bounds the search for the master when some sentinels are silent.
SENTINEL_TIMEOUT_S = 0.2
LAYER_TIMEOUT_S = 2
SENTINELS = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]*)(?:/(?P<db>[^@?#]*))?(?:\?(?P<query>[^#]*))?"
)


@dataclass(frozen=True)
class RedisServer:
    """A server, or with `sentinels` the master that they name. Its `repr` has no password."""

    url: str = field(repr=False)
    master: str = ""
    sentinels: tuple[tuple[str, int], ...] = ()
    options: dict[str, Any] = field(default_factory=dict, repr=False)  # of connections to the master
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    def cache(self, timeout_s: float) -> dict[str, Any]:
        """The entry in CACHES for clients that wait for `timeout_s` and send nothing twice.

        By the library's defaults, a command waits up to a minute if Redis falls silent, and is sent again if its reply
        is lost.
        """
        options: dict[str, Any] = {
            "SOCKET_CONNECT_TIMEOUT": timeout_s,
            "SOCKET_TIMEOUT": timeout_s,
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
            # The default is pickle, which would let anyone with write access to Redis run code here.
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        }
        if self.sentinels:
            options["CONNECTION_POOL_CLASS"] = "scores.stores.sentinel.MasterPool"
            options["CONNECTION_POOL_KWARGS"] |= self.options | {
                "master": self.master,
                "sentinels": self.sentinels,
                "sentinel_options": self.sentinel_options,
            }
        # django-redis shares connections by URL, even if the options differ.
        location = f"{self.url}#{timeout_s}"
        return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}

    def channel_layer_host(self) -> dict[str, Any]:
        """The entry in `hosts` of the channel layer.

        Its timeout limits a publish to a Redis that has fallen silent. With redis 8 it would also end every idle
        subscription (django/channels_redis#422); tests/realtime/test_silence.py checks that it does not.
        """
        timeouts = {"socket_timeout": LAYER_TIMEOUT_S, "socket_connect_timeout": LAYER_TIMEOUT_S}
        if not self.sentinels:
            return {"address": self.url} | timeouts
        master = {"master_name": self.master, "sentinels": self.sentinels, "sentinel_kwargs": self.sentinel_options}
        return self.options | master | timeouts


def redis_of(url: str) -> RedisServer:
    """Reads REDIS_URL. Raises `ValueError`, whose text shows nothing of the URL: it may contain a password."""
    if url.startswith(("redis+sentinel://", "rediss+sentinel://")):
        return _sentinels_of(url)
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(f"expected {EXAMPLE}, rediss://… or unix://…, or {SENTINEL_EXAMPLE}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"its host or port cannot be read. Expected {EXAMPLE}. {ENCODE}") from None
    if port == 0:
        raise ValueError("a port is a number from 1 to 65535.")
    if parts.fragment:
        raise ValueError(f"it has a # too many. {ENCODE}")
    if parts.scheme != "unix":
        if not parts.hostname:
            raise ValueError(f"it names no host. Expected {EXAMPLE}. {ENCODE}")
        _check_database(parts.path.removeprefix("/"))
    try:
        _check_options(url)
    except (TypeError, ValueError, AttributeError):  # of the library, which may quote what it cannot read
        raise ValueError(f"it has a parameter that redis-py does not know. Expected {EXAMPLE}. {ENCODE}") from None
    return RedisServer(url)


def _sentinels_of(url: str) -> RedisServer:
    parts = SENTINELS.fullmatch(url)
    if parts is None:
        raise ValueError(f"expected {SENTINEL_EXAMPLE}. {ENCODE}")
    try:
        query = dict(parse_qsl(parts["query"] or "", keep_blank_values=True, strict_parsing=bool(parts["query"])))
    except ValueError:
        raise ValueError(f"its parameters cannot be read. Expected {SENTINEL_EXAMPLE}. {ENCODE}") from None
    _check_database(parts["db"] or "")
    sentinels = tuple(_address(host) for host in parts["hosts"].split(","))
    master = query.pop("master", "")
    if not master:
        raise ValueError(f"it names no master. Expected {SENTINEL_EXAMPLE}")
    sentinel_login = {name: query.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    login = {"username": unquote(parts["user"] or ""), "password": unquote(parts["password"] or "")}
    tls = {"ssl": True} if parts["scheme"] == "rediss" else {}
    try:
        # What is left is for the library, and has the types that it gives to it in the URL of a server.
        rest = _check_options(f"{parts['scheme']}://host?{urlencode(query)}")
    except (TypeError, ValueError, AttributeError):
        raise ValueError(
            f"it has a parameter that redis-py does not know. Expected {SENTINEL_EXAMPLE}. {ENCODE}"
        ) from None
    timeouts = {"socket_timeout": SENTINEL_TIMEOUT_S, "socket_connect_timeout": SENTINEL_TIMEOUT_S}
    certificates = {name: value for name, value in rest.items() if name.startswith("ssl_")}
    return RedisServer(
        # Only a name: connections are shared by it.
        url=f"{parts['scheme']}+sentinel://{master}",
        master=master,
        sentinels=sentinels,
        options=rest | _given(login) | tls | {"db": int(parts["db"] or 0)},
        sentinel_options=timeouts | _given(sentinel_login) | tls | certificates,
    )


def _check_database(text: str) -> None:
    if text and not (text.isascii() and text.isdecimal()):  # the library would take any other for 0
        raise ValueError(f"the database is a number, as in {EXAMPLE}. {ENCODE}")


def _check_options(url: str) -> dict[str, Any]:
    """The options in the query of `url`. Raises what the library raises for one that it does not know."""
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    options.pop("connection_class", Connection)(**options)
    return {name: value for name, value in options.items() if name not in ("host", "port", "path")}


def _address(text: str) -> tuple[str, int]:
    host, port = text, str(SENTINEL_PORT)
    if found := re.fullmatch(r"\[(?P<host>[0-9A-Fa-f:.%]+)\](?::(?P<port>.*))?", text):
        host, port = found["host"], found["port"] or port
    elif ":" in text:
        host, _, port = text.partition(":")
    if not host:
        raise ValueError(f"a sentinel has no host. Expected {SENTINEL_EXAMPLE}. {ENCODE}")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise ValueError(f"a port of a sentinel is not a number from 1 to 65535. {ENCODE}")
    return host, int(port)


def _given(login: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in login.items() if value}
