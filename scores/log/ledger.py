"""Decides in memory, in order and without a store, what each change does to the totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import NamedTuple

from scores.exceptions import (
    ActionCapReached,
    ActionCoolingDown,
    ActionNotOpen,
    AlreadyBlocked,
    AlreadyVoided,
    BoardArchived,
    BoardHasNoStream,
    BoardNotOpen,
    BoardUnknown,
    KeyReused,
    NotBlocked,
    NotVoidable,
    OnlyServices,
    Refused,
    ScoreOutOfRange,
    ServiceHasNoScore,
    TokenRevoked,
    TotalOutOfRange,
    TotalTooLarge,
    UnknownAction,
    UnknownEvent,
    UserBlocked,
    UserInactive,
)
from scores.models import MAX_TOTAL, RESERVED, ScoreEvent
from scores.user_id import is_service

from .periods import EPOCH

Kind = ScoreEvent.Kind
VOIDABLE_KINDS = frozenset((Kind.INCREMENT.value, Kind.SCORE.value))


class Change(NamedTuple):
    """A requested change of one user's score."""

    kind: ScoreEvent.Kind
    user_id: str
    # To add; in a correction: the new total; in a score: the score; ignored in an increment that names an action.
    points: int = 0
    idempotency_key: str | None = None
    actor: str = ""
    reason: str = ""
    action: str | None = None
    token: str = ""  # prefix of the actor's token, if it has a row
    stream: str | None = None  # of a score: the board's, which has its name
    voids: int | None = None  # of a void: the event to take back, which is one of the user's
    metadata: str | None = None  # of a score: JSON


@dataclass(slots=True)
class Recorded:
    """The result of a change: the seq of its event and the user's total right after it; of a score, the score."""

    seq: int
    total: int
    replayed: bool = False  # an earlier request with the same key wrote the event
    origin: str = field(default="", compare=False)  # of the log that has the seq


class Keyed(NamedTuple):
    """The event that an earlier increment or score with the same idempotency key wrote."""

    seq: int
    points: int
    total: int
    action: str | None = None
    stream: str | None = None


class Rule(NamedTuple):
    """What an enabled action is worth, how often a user may take it, when, and whether a service must say so."""

    points: int
    cooldown_s: int
    daily_cap: int | None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    services_only: bool = False


class Taken(NamedTuple):
    """When and how often a user has taken an action, by the clock of the log: the basis of cooldown and cap."""

    ago_s: float | None  # seconds since the last time; `None`: never
    today: int  # number of times in the current UTC day
    day_left_s: float  # seconds until the next UTC day


class StreamRule(NamedTuple):
    """What a board admits to the stream of its name."""

    stream: str | None  # that it ranks: its own, which has its name, or another board's, or None: the default points
    is_archived: bool
    least: int
    most: int
    services_only: bool
    is_between_seasons: bool  # and no other board counts the stream meanwhile


class Voidable(NamedTuple):
    """An event that somebody wants to take back."""

    user_id: str
    kind: str
    points: int
    stream: str | None
    is_voided: bool
    is_superseded: bool  # a later correction has set the user's total


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
    stream: str | None
    voids: int | None
    hidden: bool | None
    metadata: str | None


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
    keyed: dict[tuple[str, str], Keyed | Event]
    inactive: frozenset[str] = frozenset()  # users whose accounts are deactivated
    revoked: frozenset[str] = frozenset()  # prefixes of service tokens
    origin: str = ""  # of the log
    at: datetime = EPOCH  # when the events are written
    rules: dict[str, Rule] = field(default_factory=dict)  # by name, enabled actions only
    taken: dict[tuple[str, str], Taken] = field(default_factory=dict)  # by user and action
    streams: dict[str, StreamRule] = field(default_factory=dict)  # by name, all boards
    voidable: dict[int, Voidable] = field(default_factory=dict)  # by seq, known kinds only
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
            case Kind.SCORE:
                return self._score(change)
            case Kind.VOID:
                return self._void(change)

    def try_decide(self, change: Change) -> Recorded | Refused:
        """`decide` for a batch: returns a refusal instead of raising it, so that the other changes go on."""
        try:
            return self.decide(change)
        except Refused as refusal:
            return refusal

    def _increment(self, change: Change) -> Recorded:
        if (replay := self._admit(change)) is not None:
            return replay
        points = change.points if change.action is None else self._action_points(change, change.action)
        total = self.totals.get(change.user_id, 0) + points
        if total > MAX_TOTAL:
            raise TotalTooLarge
        if change.action is not None:
            taken = self.taken[change.user_id, change.action]
            self.taken[change.user_id, change.action] = taken._replace(ago_s=0.0, today=taken.today + 1)
        return self._append_total(change, total)

    def _admit(self, change: Change) -> Recorded | None:
        """Raise `Refused` if the user may not score now; returns the record of an earlier request with the same key."""
        if change.token in self.revoked:  # before everything: whoever holds such a token is told nothing
            raise TokenRevoked
        if is_service(change.user_id):
            raise ServiceHasNoScore
        # Before block and cap: a request that was acknowledged once gets the same answer for ever.
        if change.idempotency_key is not None:
            earlier = self.keyed.get((change.user_id, change.idempotency_key))
            if earlier is not None:
                is_same = (earlier.stream, earlier.action) == (change.stream, change.action)
                if not is_same or (change.action is None and earlier.points != change.points):
                    raise KeyReused
                result = earlier.total if change.stream is None else earlier.points
                return Recorded(earlier.seq, result, True, self.origin)
        if change.user_id in self.inactive:
            raise UserInactive
        if change.user_id in self.blocked or change.actor in self.blocked:
            raise UserBlocked
        return None

    def _action_points(self, change: Change, action: str) -> int:
        """The points of an action; raises `Refused` if this user may not take it now."""
        rule = self.rules.get(action)
        if rule is None:
            raise UnknownAction
        if rule.services_only and not change.actor:
            raise OnlyServices
        if (rule.starts_at and self.at < rule.starts_at) or (rule.ends_at and self.at >= rule.ends_at):
            raise ActionNotOpen
        taken = self.taken[change.user_id, action]
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
        return self._append_total(change, change.points)

    def _block(self, change: Change) -> Recorded:
        if change.user_id in self.blocked:
            raise AlreadyBlocked
        self.blocked.add(change.user_id)
        return self._append_visibility(change, -1)

    def _unblock(self, change: Change) -> Recorded:
        if change.user_id not in self.blocked:
            raise NotBlocked
        if is_service(change.user_id) and change.user_id in self.totals:  # who had such an id before it was a service's
            raise ServiceHasNoScore
        self.blocked.remove(change.user_id)
        return self._append_visibility(change, 1)

    def _append_visibility(self, change: Change, members: int) -> Recorded:
        """Who has no total is no member, before and after: a service, or a player with scores of streams only."""
        total = self.totals.get(change.user_id)
        if total is None:
            return self._append(change, 0, 0, stream="")
        self.members += members
        return self._append(change, 0, total)

    def _score(self, change: Change) -> Recorded:
        if (replay := self._admit(change)) is not None:
            return replay
        if change.stream == RESERVED:
            raise BoardHasNoStream
        rule = self.streams.get(change.stream or "")
        if rule is None:
            raise BoardUnknown
        if rule.stream != change.stream:
            raise BoardHasNoStream(rule.stream)
        if rule.is_archived:
            raise BoardArchived
        if rule.is_between_seasons:
            raise BoardNotOpen
        if rule.services_only and not change.actor:
            raise OnlyServices
        if not rule.least <= change.points <= rule.most:
            raise ScoreOutOfRange(rule.least, rule.most)
        return self._append(change, change.points, self.totals.get(change.user_id, 0), stream=change.stream)

    def _void(self, change: Change) -> Recorded:
        if change.token in self.revoked:
            raise TokenRevoked
        if is_service(change.actor) and change.actor in self.blocked:  # a moderator's name may be a blocked player's
            raise UserBlocked
        event = self.voidable.get(change.voids or 0)
        if event is None or event.user_id != change.user_id:
            raise UnknownEvent
        if event.kind not in VOIDABLE_KINDS:
            raise NotVoidable
        if event.is_voided:
            raise AlreadyVoided
        total = self.totals.get(change.user_id, 0)
        if event.stream is None and not event.is_superseded:
            if total < event.points:  # somebody changed the table by hand
                raise TotalOutOfRange
            total -= event.points
        self.voidable[change.voids or 0] = event._replace(is_voided=True)
        if event.stream is not None:
            return self._append(change, -event.points, total, stream=event.stream)
        return self._append_total(change, total, hidden=change.user_id in self.blocked or None)

    def _append_total(self, change: Change, total: int, *, hidden: bool | None = None) -> Recorded:
        before = self.totals.get(change.user_id)
        self.members += before is None
        self.totals[change.user_id] = total
        return self._append(change, total - (before or 0), total, hidden=hidden)

    def _append(
        self, change: Change, points: int, total: int, *, stream: str | None = None, hidden: bool | None = None
    ) -> Recorded:
        self.seq += 1
        event = Event(  # by keyword it would take twice as long
            self.seq,
            change.user_id,
            change.kind.value,
            points,
            total,
            change.idempotency_key,
            change.actor,
            change.reason,
            change.action,
            stream,
            change.voids,
            hidden,
            change.metadata,
        )
        self.events.append(event)
        if change.idempotency_key is not None:
            self.keyed[change.user_id, change.idempotency_key] = event
        return Recorded(self.seq, points if change.kind is Kind.SCORE else total, False, self.origin)
