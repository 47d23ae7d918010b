"""Writes: the only functions that change a score. Each returns the durable record, or raises a `ScoreError`."""

from __future__ import annotations

from collections.abc import Sequence

from scores.log.ledger import Change, Kind, Recorded
from scores.log.writer import writer


async def increment(
    *,
    user_id: str,
    points: int = 0,
    action: str | None = None,
    idempotency_key: str | None = None,
    actor: str = "",
    token: str = "",
) -> Recorded:
    """Add `points` (at least 1), or what `action` is worth, to a user's total. `actor` is the service that acts for the
    user, if any, and `token` the prefix of its token.

    With a key, a repeated call returns the record of the first one. Raises `TotalTooLarge`, `UserBlocked`,
    `UserInactive`, `TokenRevoked`, `ServiceHasNoScore`, `UnknownAction`, `NotYet`, `KeyReused`, or `Unavailable`.
    """
    change = Change(Kind.INCREMENT, user_id, points, idempotency_key, actor, action=action, token=token)
    return await writer.batcher.submit(change)


async def submit(
    *,
    user_id: str,
    board: str,
    score: int,
    metadata: str | None = None,
    idempotency_key: str | None = None,
    actor: str = "",
    token: str = "",
) -> Recorded:
    """Record a `score` (-(2^53-1) to 2^53-1) of a user in the stream of `board`, with `metadata`, which is JSON.

    It touches no total. With a key, a repeated call returns the record of the first one; a user has one space of keys for
    points and scores of all boards. Raises `UnknownBoard`, `BoardHasNoStream`, `BoardArchived`, `OnlyServices`,
    `ScoreOutOfRange`, or as `increment` does.
    """
    change = Change(Kind.SCORE, user_id, score, idempotency_key, actor, token=token, stream=board, metadata=metadata)
    return await writer.batcher.submit(change)


async def void(*, seq: int, actor: str, reason: str = "", token: str = "") -> Recorded:
    """Take back an increment or a score, in the total and on every board, in the period that it counted in.

    Raises `UnknownEvent`, `NotVoidable`, `AlreadyVoided`, `TokenRevoked`, `UserBlocked` for the actor, or `Unavailable`.
    """
    return await writer.batcher.submit(_void(seq, actor, reason, token))


def void_each(seqs: Sequence[int], *, actor: str, reason: str) -> list[Recorded | Exception]:
    """`void` for code without an event loop: of at most 512 events, as the writer's transactions are."""
    return writer.batcher.submit_all_and_wait([_void(seq, actor, reason) for seq in seqs])


def _void(seq: int, actor: str, reason: str, token: str = "") -> Change:
    # Whose event it is the writer finds out.
    return Change(Kind.VOID, "", actor=actor, reason=reason, token=token, voids=seq)


def correct(*, user_id: str, total: int, actor: str, reason: str) -> Recorded:
    """Set a user's total. Raises `TotalOutOfRange`, `UserBlocked`, `ServiceHasNoScore`, or `Unavailable`."""
    return writer.batcher.submit_and_wait(Change(Kind.CORRECTION, user_id, total, actor=actor, reason=reason))


def block(*, user_id: str, actor: str, reason: str) -> Recorded:
    """Take a user off the board and refuse their increments, or refuse those of a service (`service:NAME`). Raises `AlreadyBlocked`, or `Unavailable`."""
    return writer.batcher.submit_and_wait(Change(Kind.BLOCK, user_id, actor=actor, reason=reason))


def unblock(*, user_id: str, actor: str, reason: str) -> Recorded:
    """Put a user back on the board with their earlier total, or admit a service again. Raises `NotBlocked`, or `Unavailable`."""
    return writer.batcher.submit_and_wait(Change(Kind.UNBLOCK, user_id, actor=actor, reason=reason))
