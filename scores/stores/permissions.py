"""What the user of Redis must be allowed to do, and what of it the server refuses. docs/operations.md has the ACL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ExecAbortError, NoPermissionError, RedisError

from scores.board import LEADERBOARD

if TYPE_CHECKING:
    from redis import Redis

SPARE = "leaderboard:permissions"  # a key that the questions below write to and leave behind empty
CHANNEL = "asgi__group__permissions"  # named as the channel layer names a group
SCRIPT = "return 1"

# One harmless question per command. The keys of the board are asked for by commands that only read.
QUESTIONS: list[tuple[str | int, ...]] = [
    ("DEL", SPARE),
    ("EVAL", SCRIPT, 0),
    ("EVALSHA", "0" * 40, 0),
    ("ZADD", SPARE, 1, "x"),
    ("ZCARD", SPARE),
    ("ZCOUNT", SPARE, 0, 0),
    ("ZREVRANGE", SPARE, 0, 0),
    ("ZREVRANK", SPARE, "x"),
    ("ZSCORE", SPARE, "x"),
    ("ZMSCORE", SPARE, "x"),
    ("ZSCAN", SPARE, 0),
    ("ZREM", SPARE, "x"),
    ("HSET", SPARE, "x", 1),
    ("HMGET", SPARE, "x"),
    ("HGET", SPARE, "x"),
    ("HLEN", SPARE),
    ("HGETALL", SPARE),
    ("HKEYS", SPARE),
    ("HDEL", SPARE, "x"),
    ("SET", SPARE, 1),
    ("GET", SPARE),
    ("INCR", SPARE),
    ("EXPIRE", SPARE, 1),
    ("PTTL", SPARE),
    ("PERSIST", SPARE),
    ("RENAME", SPARE, SPARE),
    ("EXISTS", SPARE),
    ("UNLINK", SPARE),
    ("TIME",),
    ("PING",),
    ("EXEC",),
    ("PUBLISH", CHANNEL, ""),
]
COMMANDS = {str(question[0]).lower() for question in QUESTIONS} | {"multi", "subscribe", "unsubscribe"}


def missing(redis: Redis, *, cluster: bool) -> list[str]:
    """The rules that ACL SETUSER needs for the user of `redis`, by asking for each; none if it has them all.

    Raises `RedisError` or `OSError`.
    """
    pipeline: Any = redis.pipeline(transaction=False)
    board = LEADERBOARD.in_cluster if cluster else LEADERBOARD
    questions = [
        *QUESTIONS,
        ("ZCARD", board.key),
        ("HMGET", board.state_key, "seq"),
        ("HLEN", board.boards_key),
        *([("CLUSTER", "INFO")] if cluster else []),
    ]
    for question in questions:
        # Not by the methods of the pipeline: they change arguments and replies, and there is none to read.
        pipeline.execute_command(*question)
    replies = pipeline.execute(raise_on_error=False)
    rules = [_rule(question, reply) for question, reply in zip(questions, replies, strict=True)]
    if "+exec" not in rules:  # or the connection would stay in a transaction that nobody can end
        rules.append(_transaction(redis))
    return sorted({rule for rule in [*rules, _subscription(redis)] if rule})


def _rule(question: tuple[str | int, ...], reply: Any) -> str | None:
    text = str(reply).lower()
    # EXEC that is refused has a code of its own.
    if not isinstance(reply, NoPermissionError) and not (isinstance(reply, ExecAbortError) and "permission" in text):
        return None
    if "channel" in text:
        return "&asgi*"
    if "keys" in text or "a key" in text:
        board_key = question[1] == LEADERBOARD.key
        return f"~{LEADERBOARD.name}" if board_key else f"~{str(question[1]).partition(':')[0]}:*"
    return "+cluster|info" if question[0] == "CLUSTER" else f"+{str(question[0]).lower()}"


def _transaction(redis: Redis) -> str | None:
    pipeline: Any = redis.pipeline(transaction=False)
    pipeline.execute_command("MULTI")
    pipeline.execute_command("EXEC")
    begun, _ = pipeline.execute(raise_on_error=False)
    return _rule(("MULTI",), begun)


def _subscription(redis: Redis) -> str | None:
    subscription = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    try:
        subscription.subscribe(CHANNEL)
        subscription.get_message(timeout=redis.connection_pool.connection_kwargs["socket_timeout"])
    except NoPermissionError as error:
        return _rule(("SUBSCRIBE",), error)
    finally:
        subscription.close()
    return None


def sentence(rules: list[str]) -> str:
    return f"its user lacks permissions; it needs ACL SETUSER … {' '.join(rules)}"


def refusals_of(redis: Redis, *, cluster: bool, error: Exception) -> str:
    """A sentence about what Redis refused with `error`."""
    try:
        rules = missing(redis, cluster=cluster)
    except (RedisError, OSError):
        rules = []
    return sentence(rules) if rules else str(error)
