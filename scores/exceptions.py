"""What can go wrong with a score.

ScoreError
├── Malformed               what was sent cannot be understood
├── Refused                 the service decided against the change; nothing happened, and a retry gets the same answer
│   ├── TotalTooLarge
│   ├── TotalOutOfRange
│   ├── KeyReused
│   ├── UserBlocked
│   ├── UserInactive
│   ├── TokenRevoked
│   ├── ServiceHasNoScore
│   ├── UnknownAction
│   ├── ActionNotOpen
│   ├── OnlyServices
│   ├── BoardHasNoStream
│   ├── ScoreOutOfRange
│   ├── UnknownEvent
│   ├── NotVoidable
│   ├── AlreadyVoided
│   ├── NotYet              refused for now; says for how long
│   │   ├── ActionCoolingDown
│   │   └── ActionCapReached
│   ├── RefusedBefore       with the code of then
│   ├── AlreadyBlocked
│   ├── NotBlocked
│   ├── BoardUnknown
│   ├── PeriodUnknown
│   ├── PeriodInvalid
│   ├── PeriodNotClosed
│   ├── BoardExists
│   ├── BoardsTooMany
│   ├── BoardArchived
│   ├── BoardNotOpen
│   ├── BoardStreamInUse
│   ├── BoardFixed          says which fields
│   └── BoardInvalid        says what is wrong with each field
└── Unavailable             try again, with the same Idempotency-Key
    ├── Overloaded          nothing happened
    ├── OutcomeUnknown      it may have happened: the connection or the time ended before the commit was confirmed
    ├── BrokerAway          what was to be queued may be in the queue
    ├── KeyAwaited          the token cannot be verified before the keys of its issuer are fetched
    ├── BoardBuilding       the board was made a moment ago, and its history is still being read
    ├── AnalyticsBuilding   the follower has not begun to count who plays when
    └── NoStoreAnswers      a read that neither Redis nor the database could answer

CopyUnusable                the copy in Redis cannot be read or moved; reads go to the database instead
├── RedisAway
├── Damaged                 only a rebuild helps
└── Gap                     catching up helps
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.db import DatabaseError, IntegrityError, InterfaceError, InternalError, OperationalError

# What psycopg raises, as Django wraps it, when the database is down, shutting down, or replaced by another server.
# Internal errors are among them: PostgreSQL uses them for "idle in transaction" to a process that was stopped, and for
# "read-only" when a standby answers instead of the primary.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)


def is_conflict(error: Exception) -> bool:
    """Whether the database refused a write because of what somebody else has just written.

    Django raises a bare `DatabaseError` for a row that should have been updated and is gone.
    """
    return isinstance(error, IntegrityError) or type(error) is DatabaseError


class ScoreError(Exception):
    """`code` is stable, for programs; the message is for people and may change."""

    code = "score_error"
    message = "The score could not be changed."

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.message)


class Malformed(ScoreError):  # noqa: N818  names what happened
    """What was sent cannot be read as a change, or not in one way only. `of` is the field that it is about, if any."""

    def __init__(self, code: str, message: str, *, of: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.of = of


class Refused(ScoreError):  # noqa: N818  names what happened, as in `except Refused`
    pass


class TotalTooLarge(Refused):
    code = "total_too_large"
    message = "The total would pass 9007199254740991, the largest score that is exact in every store."


class TotalOutOfRange(Refused):
    code = "total_out_of_range"
    message = "A total is a whole number from 0 to 9007199254740991."


class KeyReused(Refused):
    code = "idempotency_key_reused"
    message = "This idempotency key was already used with other points, another action or another board."


class UserBlocked(Refused):
    code = "user_blocked"
    message = "This user is blocked from the leaderboard."


class UserInactive(Refused):
    code = "user_inactive"
    message = "The account of this user is deactivated or deleted."


class TokenRevoked(Refused):
    code = "token_revoked"
    message = "This service token was revoked or replaced, has expired, or is unknown here."


class ServiceHasNoScore(Refused):
    code = "service_has_no_score"
    message = (
        "A service has no score of its own: it adds points for players, at /api/v1/users/{userId}/scores/increment."
    )


class UnknownAction(Refused):
    code = "unknown_action"
    message = "There is no such action."


class ActionNotOpen(Refused):
    code = "action_not_open"
    message = "This action does not count now."


class OnlyServices(Refused):
    code = "only_game_servers"
    message = "Only a game server may submit this."


class BoardHasNoStream(Refused):
    code = "board_has_no_stream"
    message = "This board counts points, which are added at /api/v1/scores/increment."

    def __init__(self, stream: str | None = None) -> None:
        super().__init__(
            self.message
            if stream is None
            else f"This board ranks the scores of another one: send them to /api/v1/boards/{stream}/scores."
        )


class ScoreOutOfRange(Refused):
    code = "score_out_of_range"
    message = "This board takes scores from {least} to {most}."

    def __init__(self, least: int, most: int) -> None:
        super().__init__(self.message.format(least=least, most=most))


class UnknownEvent(Refused):
    code = "unknown_event"
    message = "There is no such event."


class NotVoidable(Refused):
    code = "not_voidable"
    message = "Only an increment or a score can be voided."


class AlreadyVoided(Refused):
    code = "already_voided"
    message = "This event was voided already."


class NotYet(Refused):
    def __init__(self, retry_after_s: int) -> None:
        super().__init__(self.message.format(retry_after_s=retry_after_s))
        self.retry_after_s = retry_after_s  # whole seconds, at least 1


class ActionCoolingDown(NotYet):
    code = "action_cooling_down"
    message = "Too soon for this action again, try again in {retry_after_s} s."


class ActionCapReached(NotYet):
    code = "action_cap_reached"
    message = "This action has reached its limit for today."


class RefusedBefore(Refused):
    """What was decided about a queued change, as it was written down."""

    def __init__(self, code: str, message: str, retry_after_s: int | None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s


class AlreadyBlocked(Refused):
    code = "already_blocked"
    message = "This user is already blocked."


class NotBlocked(Refused):
    code = "not_blocked"
    message = "This user is not blocked."


class BoardUnknown(Refused):
    code = "board_unknown"
    message = "There is no such board."


class PeriodUnknown(Refused):
    code = "period_unknown"
    message = "This board has no such period, or not yet."


class PeriodInvalid(Refused):
    code = "period_invalid"
    message = "Expected current, previous, a date such as 2026-11-26, or the number of a period."


class PeriodNotClosed(Refused):
    code = "period_not_closed"
    message = "The results of this period are not final yet."


class BoardExists(Refused):
    code = "board_exists"
    message = "There is a board with this name already."


class BoardsTooMany(Refused):
    code = "boards_too_many"
    message = "There are as many boards as MAX_BOARDS allows."


class BoardArchived(Refused):
    code = "board_archived"
    message = "This board is archived: nothing new counts on it."


class BoardNotOpen(Refused):
    code = "board_not_open"
    message = "No season of this board is under way: nothing would count."


class BoardStreamInUse(Refused):
    code = "board_stream_in_use"

    def __init__(self, boards: Sequence[str]) -> None:
        shown = ", ".join(boards[:10]) + (", …" if len(boards) > 10 else "")
        super().__init__(f"Other boards rank the stream of this one: {shown}. Delete them first, or archive this one.")


class BoardFixed(Refused):
    code = "board_fixed"

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(f"This cannot be changed any more: {', '.join(fields)}.")
        self.fields = fields


class Mistake(NamedTuple):
    """What is wrong with a field: `code` for programs, the sentence for people."""

    field: str
    code: str
    sentence: str


class BoardInvalid(Refused):
    code = "board_invalid"

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(" ".join(f"{mistake.field}: {mistake.sentence}" for mistake in mistakes))
        self.mistakes = mistakes


class Unavailable(ScoreError):  # noqa: N818
    code = "unavailable"
    message = "The service cannot answer right now."


class Overloaded(Unavailable):
    code = "overloaded"
    message = "Too many requests are waiting. Nothing was changed."


class OutcomeUnknown(Unavailable):
    code = "outcome_unknown"
    message = "No confirmation came in time. Retry with the same idempotency key, so that a change counts once."


class BrokerAway(Unavailable):
    code = "broker_away"
    message = "The broker has not confirmed the change. Retry with the same idempotency key, so that it counts once."


class KeyAwaited(Unavailable):
    message = "The keys of the identity provider are still being fetched. Try again in a moment."


class BoardBuilding(Unavailable):
    code = "board_building"
    message = "This board is new, and its history is still being read. Try again in a moment."


class AnalyticsBuilding(Unavailable):
    code = "analytics_building"
    message = "Nothing has been counted yet: the follower begins in a moment."


class NoStoreAnswers(Unavailable):
    code = "unavailable"
    message = "The service cannot reach its data right now. Try again in a moment."


class CopyUnusable(Exception):  # noqa: N818  a state, not always an error
    """The copy in Redis cannot be read or moved forward. `reason` is for logs and metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The copy in Redis is {reason}.")
        self.reason = reason


class RedisAway(CopyUnusable):
    """Redis does not answer, returns an error, or did so less than a second ago."""

    def __init__(self) -> None:
        super().__init__("away")


class Damaged(CopyUnusable):
    """The copy is missing, belongs to another log, or has the wrong size: only a rebuild helps."""


class Gap(CopyUnusable):
    """The copy lacks events before those of this change: `catch_up` helps."""

    def __init__(self) -> None:
        super().__init__("behind")
