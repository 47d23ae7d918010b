"""Redis: one client per timeout, with a breaker in front of them. All Redis commands go through this module."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django_redis import get_redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from scores import metrics, signals
from scores.exceptions import RedisAway

from . import permissions
from .breaker import Breaker

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

BULK = "bulk"  # the alias in CACHES with long timeouts, for work that no request waits for
ALIASES = ("default", BULK)
WRITTEN = "leaderboard:written"  # the key of the write that proves that Redis takes writes
WRITTEN_FOR_S = 60
SLOTS = 16_384
# Replies of a server that is not, or not yet, the one to ask. A forwarder or a name may lead new connections to another
# one, while it keeps those that it has: after a failover they would be refused for ever.
ELSEWHERE = re.compile(r"\b(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|MISCONF|MOVED|ASK)\b")
# As a script of Redis 6.2, of Redis 7, and a command say it.
DENIED = re.compile(r"NOPERM|ACL failure|executing the script can't|no permissions? to", re.IGNORECASE)

breaker = Breaker()


class Unfit(RedisConnectionError):  # noqa: N818  a state of Redis
    """Redis answers, and its setup has to change before the service can use it. The text says how, for operators."""


class Outage:
    """What is known of the time in which Redis is not used."""

    def __init__(self) -> None:
        self.to_mend: str | None = None  # what operators have to change, as a sentence
        self.denied = False  # the ACL refused something
        self.moved = False  # another server may be the primary by now
        self.examined = False  # since it ended, somebody asked which permissions there are

    def is_news(self, error: Exception) -> bool:
        """Whether to log `error`: the first one of an outage, and later what operators have to mend, once."""
        is_first = not breaker.is_open
        before = self.to_mend
        if isinstance(error, Unfit):
            self.to_mend = str(error)
        return is_first or self.to_mend != before

    def end(self) -> None:
        moved = self.moved
        self.to_mend, self.denied, self.moved, self.examined = None, False, False, False
        if moved:
            _tell_moved()


outage = Outage()


@cache
def client(alias: str = "default") -> Redis:
    # The raw client: the sorted-set methods of django-redis encode the members and prefix the key.
    redis = cast("Redis", get_redis_connection(alias))
    redis.connection_pool.connection_kwargs["redis_connect_func"] = _greet
    return redis


# What kind of server it is


class _KindChanged(RedisConnectionError):  # noqa: N818  nothing went wrong
    """The first connection to a server in cluster mode, or to one that is not any more: keys have other names there."""


class _Kind:
    """Whether the server is in cluster mode, as the newest connection found it."""

    def __init__(self) -> None:
        self.is_cluster = False


_kind = _Kind()


def in_cluster() -> bool:
    """Whether Redis is in cluster mode. Ask inside of `guarded`: a connection may find that it is another kind now."""
    return _kind.is_cluster


def _greet(connection: Any) -> None:
    """Runs on each new connection, before its first command.

    The names of the keys must depend on nothing but what the server says of itself: two processes that differ would move
    one ZSET under two states. HELLO needs no permission, unlike INFO.
    """
    connection.on_connect()
    connection.send_command("HELLO")
    try:
        hello = connection.read_response()
    except ResponseError:  # a proxy that does not know it
        hello = []
    told = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=False))
    is_cluster = told.get(b"mode") == b"cluster"
    if is_cluster:
        connection.send_command("CLUSTER", "INFO")
        _check_slots(connection.read_response().decode())
    if is_cluster != _kind.is_cluster:
        _kind.is_cluster = is_cluster
        raise _KindChanged("Redis is in cluster mode" if is_cluster else "Redis is not in cluster mode")


def _check_slots(info: str) -> None:
    told = dict(line.partition(":")[::2] for line in info.split())
    shards, slots = int(told.get("cluster_size", 0)), int(told.get("cluster_slots_assigned", 0))
    if shards > 1:
        raise Unfit(
            f"Redis is a cluster of {shards} shards, and the board needs one shard with all slots. "
            "Reads stay on PostgreSQL"
        )
    if slots < SLOTS:
        raise Unfit(
            f"Redis is a cluster in which {slots} of {SLOTS} slots are assigned. Reads stay on PostgreSQL until all are"
        )


def moved() -> None:
    """Another server may be the primary: give up the connections of this process to the one before.

    Connections in use end with their command. Those of the channel layer end when Redis answers again: until then they
    could be led to the same server.
    """
    for alias in ALIASES:
        pool = client(alias).connection_pool
        # Not all at once: it would take the socket from under a thread that reads.
        pool.update_active_connections_for_reconnect()
        pool.disconnect(inuse_connections=False)
    if breaker.is_open:
        outage.moved = True
    else:
        _tell_moved()


def _tell_moved() -> None:
    signals.redis_moved.send_robust(sender=Outage)


# Commands


@cache
def sha_of(script: str) -> str:
    """The name under which Redis knows a script: EVALSHA."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def run_script(body: str, *, keys: Sequence[str], args: Sequence[str | int | bytes], alias: str = "default") -> Any:
    """The reply of the Lua script `body`. Raises what Redis raises.

    A Redis that is new, or was told to forget its scripts, gets the text. redis-py's own `Script` loads it and then asks by
    its name again, so a script that is forgotten between the two looks like a Redis that does not answer.
    """
    redis = client(alias)
    try:
        return redis.evalsha(sha_of(body), len(keys), *keys, *args)
    except NoScriptError:  # nothing was done
        return redis.eval(body, len(keys), *keys, *args)


Reply = TypeVar("Reply")


def guarded(command: Callable[[], Reply], *, probe: bool = False) -> Reply:
    """The reply of Redis. Raises `RedisAway`, at once while the breaker is open; a `probe` is sent even then."""
    if not probe and not breaker.admits():
        raise RedisAway
    started = time.perf_counter()
    try:
        try:
            reply = command()
        except _KindChanged:  # nothing was sent
            reply = command()
        if breaker.is_open:
            check_writes()
    except (RedisError, OSError) as error:
        _failed(error)
        raise RedisAway from error
    if breaker.is_open:
        logger.info("Redis answers again")
        metrics.redis_away.set(0)
        outage.end()
    metrics.redis_seconds.observe(time.perf_counter() - started)
    breaker.succeeded()
    return reply


def _failed(error: Exception) -> None:
    metrics.redis_away.set(1)
    if is_denied(error) and not outage.denied:
        outage.denied = True
        error = Unfit(permissions.refusals_of(client(), cluster=in_cluster(), error=error))
    if outage.is_news(error):
        logger.warning("Redis does not answer: %s", error)
    breaker.failed()
    if is_elsewhere(error):
        moved()


def is_elsewhere(error: Exception) -> bool:
    """Whether this server refuses what the primary would do."""
    # redis-py cuts the code from the text of the replies that it knows.
    return bool(ELSEWHERE.search(f"{getattr(error, 'status_code', None) or ''} {error}"))


def is_denied(error: Exception) -> bool:
    """Whether the ACL of Redis refuses a command, a key or a channel."""
    return bool(DENIED.search(f"{getattr(error, 'status_code', None) or ''} {error}"))


def check_writes() -> None:
    """Raises what Redis raises if it does not take writes, or not all that the service needs.

    A replica answers reads, and a user may have some permissions: a reply alone does not show that Redis is back.
    """
    if outage.denied and (rules := permissions.missing(client(), cluster=in_cluster())):
        raise Unfit(permissions.sentence(rules))
    client().set(WRITTEN, 1, ex=WRITTEN_FOR_S)


def say_what_is_denied() -> None:
    """Log which permissions the user of Redis lacks, once after each outage: some are needed only now and then.

    Those of the channel layer make no outage, as all else works without it. Not for a request: it takes 30 commands.
    """
    if outage.examined or breaker.is_open:
        return
    outage.examined = True
    rules = guarded(lambda: permissions.missing(client(BULK), cluster=in_cluster()))
    if rules:
        logger.warning("Redis answers, and %s", permissions.sentence(rules))
