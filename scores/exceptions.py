"""What can go wrong with a score.

ScoreError
├── Refused                 the change was looked at and turned down; nothing happened, and a retry gets the same answer
│   ├── TotalTooLarge
│   ├── TotalOutOfRange
│   ├── KeyReused
│   ├── UserBlocked
│   ├── UserInactive
│   ├── UnknownAction
│   ├── NotYet              refused for now; it says for how long
│   │   ├── ActionCoolingDown
│   │   └── ActionCapReached
│   ├── AlreadyBlocked
│   └── NotBlocked
└── Unavailable             try again, with the same Idempotency-Key
    ├── Overloaded          nothing happened
    ├── OutcomeUnknown      it may have happened: the commit was under way when the connection or the patience ended
    ├── KeyAwaited          a token that nobody can verify before its issuer's keys are here
    └── NoStoreAnswers      a read that neither Redis nor the database could answer

CopyUnusable                the copy in Redis cannot be read or moved; the database answers in its place
├── RedisAway
├── Damaged                 only a rebuild helps
└── Gap                     catching up helps
"""

from __future__ import annotations

from django.db import InterfaceError, InternalError, OperationalError

# What psycopg raises, as Django wraps it, when the database is gone, going, or somebody else's. Internal errors are
# among them: so it says "you were idle in a transaction" to a process that was stopped, and "read-only" when a standby
# answers in place of the server that was.
AWAY = (OperationalError, InterfaceError, InternalError)


class ScoreError(Exception):
    """`code` is stable and for programs; the message is for people and may change."""

    code = "score_error"
    message = "The score could not be changed."

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.message)


class Refused(ScoreError):  # noqa: N818  reads as what happened, as in `except Refused`
    pass


class TotalTooLarge(Refused):
    code = "total_too_large"
    message = "The total would pass 9007199254740991, the largest score that is exact in every store."


class TotalOutOfRange(Refused):
    code = "total_out_of_range"
    message = "A total is a whole number from 0 to 9007199254740991."


class KeyReused(Refused):
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used before with other points or another action."


class UserBlocked(Refused):
    code = "user_blocked"
    message = "This user is blocked from the leaderboard."


class UserInactive(Refused):
    code = "user_inactive"
    message = "The account of this user is deactivated."


class UnknownAction(Refused):
    code = "unknown_action"
    message = "There is no such action."


class NotYet(Refused):
    def __init__(self, retry_after_s: int) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s  # whole seconds, at least 1


class ActionCoolingDown(NotYet):
    code = "action_cooling_down"
    message = "This action was taken a moment ago."


class ActionCapReached(NotYet):
    code = "action_cap_reached"
    message = "This action was taken as often as it may be in one day."


class AlreadyBlocked(Refused):
    code = "already_blocked"
    message = "This user is blocked already."


class NotBlocked(Refused):
    code = "not_blocked"
    message = "This user is not blocked."


class Unavailable(ScoreError):  # noqa: N818
    code = "unavailable"
    message = "The service cannot answer right now."


class Overloaded(Unavailable):
    code = "overloaded"
    message = "Too many requests are waiting. Nothing was changed."


class OutcomeUnknown(Unavailable):
    code = "outcome_unknown"
    message = "The database did not confirm in time. Retry with the same Idempotency-Key to be exact."


class KeyAwaited(Unavailable):
    message = "The keys of the identity provider are on their way."


class NoStoreAnswers(Unavailable):
    code = "unavailable"
    message = "Neither Redis nor the database answers right now."


class CopyUnusable(Exception):  # noqa: N818  a state of affairs, not always an error
    """The copy in Redis cannot be read or moved forward. `reason` is for logs and metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The copy in Redis is {reason}.")
        self.reason = reason


class RedisAway(CopyUnusable):
    """Redis does not answer, refuses, or has failed to a moment ago."""

    def __init__(self) -> None:
        super().__init__("away")


class Damaged(CopyUnusable):
    """The copy is missing, of another log, or not of the size it should be: only a rebuild helps."""


class Gap(CopyUnusable):
    """The copy is behind by events that this change does not carry: `catch_up` helps."""

    def __init__(self) -> None:
        super().__init__("behind")
