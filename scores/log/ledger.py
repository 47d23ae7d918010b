"""Decides in memory, in order and without a store, what each change does to the totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

from scores.exceptions import (
    ActionCapReached,
    ActionCoolingDown,
    AlreadyBlocked,
    KeyReused,
    NotBlocked,
    Refused,
    ServiceHasNoScore,
    TokenRevoked,
    TotalOutOfRange,
    TotalTooLarge,
    UnknownAction,
    UserBlocked,
    UserInactive,
)
from scores.models import MAX_TOTAL, ScoreEvent
from scores.user_id import is_service

Kind = ScoreEvent.Kind


class Change(NamedTuple):
    """A requested change of one user's score."""

    kind: ScoreEvent.Kind
    user_id: str
    points: int = 0  # to add; in a correction: the new total; ignored in an increment that names an action
    idempotency_key: str | None = None
    actor: str = ""
    reason: str = ""
    action: str | None = None
    token: str = ""  # prefix of the actor's token, if it has a row


class Recorded(NamedTuple):
    """The result of a change: the seq of its event and the user's total right after it."""

    seq: int
    total: int
    replayed: bool = False  # an earlier request with the same key wrote the event


class Keyed(NamedTuple):
    """The event that an earlier increment with the same idempotency key wrote."""

    seq: int
    points: int
    total: int
    action: str | None = None


class Rule(NamedTuple):
    """What an enabled action is worth and how often a user may take it."""

    points: int
    cooldown_s: int
    daily_cap: int | None


class Taken(NamedTuple):
    """When and how often a user has taken an action, by the database's clock: the basis of cooldown and cap."""

    ago_s: float | None  # seconds since the last time; `None`: never
    today: int  # number of times in the current UTC day
    day_left_s: float  # seconds until the next UTC day


class Event(NamedTuple):
    """A row to be appended to the log."""

    seq: int
    user_id: str
    kind: str  # the plain value: psycopg would store the name of an enum member
    points: int
    total: int
    idempotency_key: str | None
    actor: str
    reason: str
    action: str | None


@dataclass
class Ledger:
    """The part of the tables that a batch touches, read under the lock on the log's head, and the events added to it.

    Every field but `events` must hold all existing rows of the users, actors, keys and actions of the changes to
    decide.
    """

    seq: int
    members: int
    totals: dict[str, int]
    blocked: set[str]
    keyed: dict[tuple[str, str], Keyed]
    inactive: frozenset[str] = frozenset()  # users whose accounts are deactivated
    revoked: frozenset[str] = frozenset()  # prefixes of service tokens
    rules: dict[str, Rule] = field(default_factory=dict)  # by name, enabled actions only
    taken: dict[tuple[str, str], Taken] = field(default_factory=dict)  # by user and action
    events: list[Event] = field(default_factory=list)

    def decide(self, change: Change) -> Recorded:
        """Append the event of `change`, or raise `Refused` and change nothing."""
        match change.kind:
            case Kind.INCREMENT:
                return self._increment(change)
            case Kind.CORRECTION:
                return self._correct(change)
            case Kind.BLOCK:
                return self._block(change)
            case Kind.UNBLOCK:
                return self._unblock(change)

    def try_decide(self, change: Change) -> Recorded | Refused:
        """`decide` for a batch: returns a refusal instead of raising it, so that the other changes go on."""
        try:
            return self.decide(change)
        except Refused as refusal:
            return refusal

    def _increment(self, change: Change) -> Recorded:
        if change.token in self.revoked:  # before everything: whoever holds such a token is told nothing
            raise TokenRevoked
        if is_service(change.user_id):
            raise ServiceHasNoScore
        # Before block and cap: a request that was acknowledged once gets the same answer for ever.
        if change.idempotency_key is not None:
            earlier = self.keyed.get((change.user_id, change.idempotency_key))
            if earlier is not None:
                if earlier.action != change.action or (change.action is None and earlier.points != change.points):
                    raise KeyReused
                return Recorded(earlier.seq, earlier.total, replayed=True)
        if change.user_id in self.inactive:
            raise UserInactive
        if change.user_id in self.blocked or change.actor in self.blocked:
            raise UserBlocked
        points = change.points if change.action is None else self._action_points(change.user_id, change.action)
        total = self.totals.get(change.user_id, 0) + points
        if total > MAX_TOTAL:
            raise TotalTooLarge
        if change.action is not None:
            taken = self.taken[change.user_id, change.action]
            self.taken[change.user_id, change.action] = taken._replace(ago_s=0.0, today=taken.today + 1)
        return self._append(change, total)

    def _action_points(self, user_id: str, action: str) -> int:
        """The points of an action; raises `UnknownAction` or `NotYet` if this user may not take it now."""
        rule = self.rules.get(action)
        if rule is None:
            raise UnknownAction
        taken = self.taken[user_id, action]
        if rule.daily_cap is not None and taken.today >= rule.daily_cap:
            raise ActionCapReached(max(1, ceil(taken.day_left_s)))
        if taken.ago_s is not None and taken.ago_s < rule.cooldown_s:
            raise ActionCoolingDown(max(1, ceil(rule.cooldown_s - taken.ago_s)))
        return rule.points

    def _correct(self, change: Change) -> Recorded:
        if is_service(change.user_id):
            raise ServiceHasNoScore
        # A hidden total cannot be corrected: the log would have to record for each event whether it is visible.
        if change.user_id in self.blocked:
            raise UserBlocked
        if not 0 <= change.points <= MAX_TOTAL:
            raise TotalOutOfRange
        return self._append(change, change.points)

    def _block(self, change: Change) -> Recorded:
        if change.user_id in self.blocked:
            raise AlreadyBlocked
        self.members -= change.user_id in self.totals
        self.blocked.add(change.user_id)
        return self._append(change, self.totals.get(change.user_id, 0))

    def _unblock(self, change: Change) -> Recorded:
        if change.user_id not in self.blocked:
            raise NotBlocked
        if is_service(change.user_id):
            if change.user_id in self.totals:  # of a user who had such an id before it was a service's
                raise ServiceHasNoScore
            self.blocked.remove(change.user_id)
            return self._append(change, 0)
        self.blocked.remove(change.user_id)
        self.members += 1
        return self._append(change, self.totals[change.user_id])

    def _append(self, change: Change, total: int) -> Recorded:
        before = self.totals.get(change.user_id)
        self.seq += 1
        if before is not None or not is_service(change.user_id):  # a block gives a service no total
            self.members += before is None and change.kind != Kind.BLOCK
            self.totals[change.user_id] = total
        self.events.append(
            Event(
                seq=self.seq,
                user_id=change.user_id,
                kind=change.kind.value,
                points=total - (before or 0),
                total=total,
                idempotency_key=change.idempotency_key,
                actor=change.actor,
                reason=change.reason,
                action=change.action,
            )
        )
        if change.idempotency_key is not None:
            self.keyed[change.user_id, change.idempotency_key] = Keyed(
                self.seq, total - (before or 0), total, change.action
            )
        return Recorded(self.seq, total)
