"""Writes: the only functions that change a score. Each returns the durable record, or raises a `ScoreError`."""

from __future__ import annotations

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


def correct(*, user_id: str, total: int, actor: str, reason: str) -> Recorded:
    """Set a user's total. Raises `TotalOutOfRange`, `UserBlocked`, `ServiceHasNoScore`, or `Unavailable`."""
    return writer.batcher.submit_and_wait(Change(Kind.CORRECTION, user_id, total, actor=actor, reason=reason))


def block(*, user_id: str, actor: str, reason: str) -> Recorded:
    """Take a user off the board and refuse their increments, or refuse those of a service (`service:NAME`). Raises `AlreadyBlocked`, or `Unavailable`."""
    return writer.batcher.submit_and_wait(Change(Kind.BLOCK, user_id, actor=actor, reason=reason))


def unblock(*, user_id: str, actor: str, reason: str) -> Recorded:
    """Put a user back on the board with their earlier total, or admit a service again. Raises `NotBlocked`, or `Unavailable`."""
    return writer.batcher.submit_and_wait(Change(Kind.UNBLOCK, user_id, actor=actor, reason=reason))
