"""Writes: the only functions that change a score. Each returns the durable record, or raises a `ScoreError`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from scores.exceptions import Unavailable
from scores.log.head import log
from scores.log.ledger import Change, Kind, Recorded
from scores.log.voidable import first_seq_since, portion
from scores.log.writer import MAX_PER_TRANSACTION, writer


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
    points and scores of all boards. Raises `BoardUnknown`, `BoardHasNoStream`, `BoardArchived`, `OnlyServices`,
    `ScoreOutOfRange`, or as `increment` does.
    """
    change = Change(Kind.SCORE, user_id, score, idempotency_key, actor, token=token, stream=board, metadata=metadata)
    return await writer.batcher.submit(change)


async def record_each(changes: Sequence[Change]) -> list[Recorded | Exception]:
    """Record changes of many users, as `increment` and `submit` do: the record of each, or its error in its place.

    In transactions of at most 512 changes, in order. Raises `Overloaded`: nothing happened.
    """
    return await writer.batcher.submit_all(changes)


async def void(*, seq: int, actor: str, reason: str = "", token: str = "") -> Recorded:
    """Take back an increment or a score, in the total and on every board, in the period that it counted in.

    Raises `UnknownEvent`, `NotVoidable`, `AlreadyVoided`, `TokenRevoked`, `UserBlocked` for the actor, or `Unavailable`.
    """
    return await writer.batcher.submit(_void(seq, actor, reason, token))


def void_each(seqs: Sequence[int], *, actor: str, reason: str) -> list[Recorded | Exception]:
    """`void` for code without an event loop: of at most 512 events, as the writer's transactions are."""
    return writer.batcher.submit_all_and_wait([_void(seq, actor, reason) for seq in seqs])


class VoidProgress(NamedTuple):
    """How far a run of `void_since` is: events voided and refused so far, and of the events up to `last` those seen."""

    voided: int
    refused: int
    seen: int
    last: int


def void_since(
    *, since: datetime, actor: str, reason: str, user_id: str = "", of_actor: str = ""
) -> Iterator[VoidProgress]:
    """Void all events of a user, or of an actor, that were written at `since` or later, and before this began.

    In transactions of at most 512. Yields after each: whoever stops there, or is stopped, may begin again, and what is
    voided stays so. Raises Django's `DatabaseError` or `Unavailable` when it cannot go on.
    """
    after, last = first_seq_since(log, since) - 1, log.head().seq
    first, voided, refused = after, 0, 0
    while after < last:
        found = portion(log, user_id=user_id, actor=of_actor, after=after, last=last, limit=MAX_PER_TRANSACTION)
        after = found.scanned
        if found.seqs:
            outcomes = void_each(found.seqs, actor=actor, reason=reason)
            if unavailable := next((outcome for outcome in outcomes if isinstance(outcome, Unavailable)), None):
                raise unavailable
            done = sum(isinstance(outcome, Recorded) for outcome in outcomes)
            voided, refused = voided + done, refused + len(outcomes) - done
        yield VoidProgress(voided, refused, after - first, last - first)


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
