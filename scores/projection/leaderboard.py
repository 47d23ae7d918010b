"""The copy in Redis: a sorted set, and how far in the log it is. The only file with Redis commands beside `limiter`.

`leaderboard` is the ZSET: member = user id, score = total. `leaderboard:state` is a hash of `origin` (which log),
`seq` (the event that the set is the state after) and `members` (how many it must hold). One script changes all of them
at once, so they agree after a crash, a failover or the load of an old RDB file; a set whose size is not `members` was
touched by somebody else and is not believed. `leaderboard:rebuilt` tells of the last rebuild, for people.

Every script is idempotent and carries absolute totals: a call whose answer was lost may simply be made again.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from django_redis import get_redis_connection
from redis.exceptions import RedisError

from scores import metrics
from scores.log import head as log
from scores.stores.breaker import Breaker

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script

logger = logging.getLogger(__name__)

KEY = "leaderboard"
STATE_KEY = "leaderboard:state"
REBUILT_KEY = "leaderboard:rebuilt"
CATCH_UP_EVENTS = 5_000  # per step: some 10 ms of Redis
REBUILD_MEMBERS = 1_000  # per ZADD: well under 10 ms of Redis
BULK = "bulk"  # the alias in CACHES whose timeouts are for work that nobody waits for
SIDE_KEY_TTL_S = 3_600  # what a killed rebuild leaves behind goes away by itself

breaker = Breaker()


class CopyUnusable(Exception):  # noqa: N818  a state of affairs, not always an error
    """The copy cannot be read or moved forward. `reason` is for logs and metrics."""

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


class State(NamedTuple):
    """How the copy describes itself, beside the size it really has."""

    origin: str
    seq: int
    members: int
    size: int


class Rebuilt(NamedTuple):
    """A rebuild of the past: when it ended (POSIX seconds), how long it took, of how many, up to which event, and why."""

    at: float
    took_s: float
    members: int
    seq: int
    why: str


class Entry(NamedTuple):
    """A line of the board. `rank` is competition rank: one plus the number of users with a strictly higher score."""

    rank: int
    user_id: str
    score: int


class Totals(NamedTuple):
    """What the copy says of some members right after event `seq` of `origin`; `None` where there is no such member.

    Scores are `int`, unless a foreign hand put others there.
    """

    origin: str
    seq: int
    scores: list[float | None]


class PageQuestion(NamedTuple):
    limit: int
    offset: int


class StandingQuestion(NamedTuple):
    user_id: str


Question = PageQuestion | StandingQuestion


class Snapshot(NamedTuple):
    """Answers that are all true of one moment: right after event `seq` of the log `origin`."""

    origin: str
    seq: int
    members: int
    answers: list[list[Entry] | Entry | None]  # of a page: its entries; of a standing: its entry, or None


# Checks that the copy is whole and of the log that the caller knows; the first lines of every script below. To `pcall`
# a key of another type answers with the table of an error: a hash without a state, a set without a size.
_CHECK = """
local state = redis.pcall('HMGET', KEYS[2], 'origin', 'seq', 'members')
if state.err then state = {false, false, false} end
local size = tonumber(redis.pcall('ZCARD', KEYS[1])) or -1
local function fault()
    if not state[1] or not state[2] or not state[3] then return 'missing' end
    if state[1] ~= ARGV[1] then return 'foreign' end
    if tonumber(state[3]) ~= size then return 'damaged' end
end
"""

# ARGV: origin, first, last, then member and total in turn; an empty total removes the member.
_APPLY = (
    _CHECK
    + """
local wrong = fault()
if wrong then return {wrong} end
local seq, first, last = tonumber(state[2]), tonumber(ARGV[2]), tonumber(ARGV[3])
if seq >= last then return {'done'} end
if seq < first - 1 then return {'behind'} end
local add, remove = {}, {}
local function flush(command, list)
    if #list > 0 then redis.call(command, KEYS[1], unpack(list)) end
end
for i = 4, #ARGV, 2 do
    if ARGV[i + 1] == '' then
        remove[#remove + 1] = ARGV[i]
    else
        add[#add + 1] = ARGV[i + 1]
        add[#add + 1] = ARGV[i]
    end
    if #add >= 2000 then flush('ZADD', add) add = {} end
    if #remove >= 2000 then flush('ZREM', remove) remove = {} end
end
flush('ZADD', add)
flush('ZREM', remove)
redis.call('HSET', KEYS[2], 'seq', ARGV[3], 'members', redis.call('ZCARD', KEYS[1]))
return {'moved'}
"""
)

# ARGV: origin, least seq, then per question 'page' offset stop, or 'standing' member ''.
_READ = (
    _CHECK
    + """
local wrong = fault()
if wrong then return {wrong} end
if tonumber(state[2]) < tonumber(ARGV[2]) then return {'behind'} end
local answers = {}
local function rank(score)
    return redis.call('ZCOUNT', KEYS[1], '(' .. score, '+inf') + 1
end
for i = 3, #ARGV, 3 do
    if ARGV[i] == 'page' then
        local rows = redis.call('ZREVRANGE', KEYS[1], ARGV[i + 1], ARGV[i + 2], 'WITHSCORES')
        local first = 1
        if ARGV[i + 1] ~= '0' and #rows > 0 then first = rank(rows[2]) end
        answers[#answers + 1] = {first, rows}
    else
        local score = redis.call('ZSCORE', KEYS[1], ARGV[i + 1])
        answers[#answers + 1] = score and {rank(score), score} or {}
    end
end
return {'whole', state[2], state[3], answers}
"""
)

# KEYS[3] is the side key. ARGV: origin, seq, members, force. Not swapped in over a whole copy that is as far or
# further, so of two rebuilds at once the slower one only wasted its work.
_SWAP = (
    _CHECK
    + """
if ARGV[4] ~= '1' and not fault() and tonumber(state[2]) >= tonumber(ARGV[2]) then
    redis.call('DEL', KEYS[3])
    return {'done'}
end
if redis.call('ZCARD', KEYS[3]) ~= tonumber(ARGV[3]) then return {'damaged'} end
redis.call('DEL', KEYS[2])
redis.call('UNLINK', KEYS[1])  -- freed in the background: RENAME over a million members would take half a second
if ARGV[3] ~= '0' then
    redis.call('RENAME', KEYS[3], KEYS[1])
    redis.call('PERSIST', KEYS[1])
end
redis.call('HSET', KEYS[2], 'origin', ARGV[1], 'seq', ARGV[2], 'members', ARGV[3])
return {'moved'}
"""
)

# ARGV: origin, seq, then member and total in turn. Only the state after event `seq` is mended, so a total that a late
# change is about to write is never taken back.
_MEND = (
    _CHECK
    + """
local wrong = fault()
if wrong then return {wrong} end
if state[2] ~= ARGV[2] then return {'behind'} end
local mended = 0
for i = 3, #ARGV, 2 do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
    if ARGV[i + 1] == '' then
        mended = mended + redis.call('ZREM', KEYS[1], ARGV[i])
    elseif not score or tonumber(score) ~= tonumber(ARGV[i + 1]) then
        redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i])
        mended = mended + 1
    end
end
return {'moved', mended}
"""
)

# ARGV: members.
_TOTALS = """
return {redis.call('HMGET', KEYS[2], 'origin', 'seq'), redis.call('ZMSCORE', KEYS[1], unpack(ARGV))}
"""

_STATE = _CHECK + "return {state[1], state[2], state[3], size}"


class _Newest:
    """The newest event that this process has seen in the copy. A copy that shows less went back: it is an old RDB file's."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}  # by origin, of which only the last one counts
        self._lock = threading.Lock()

    def in_copy(self, origin: str) -> int:
        return self._of.get(origin, 0)

    def saw(self, origin: str, seq: int) -> None:
        with self._lock:
            if seq > self._of.get(origin, -1):
                self._of = {origin: seq}


_newest = _Newest()


@cache
def client(alias: str = "default") -> Redis:
    # The raw client: django-redis's own sorted-set methods encode the members and prefix the key.
    return cast("Redis", get_redis_connection(alias))


@cache
def _script(body: str) -> Script:
    return client().register_script(body)


Reply = TypeVar("Reply")


def guarded(command: Callable[[], Reply], *, probe: bool = False) -> Reply:
    """The answer of Redis, or `RedisAway` at once while it is known not to answer, unless this is to find out."""
    if not probe and not breaker.admits():
        raise RedisAway
    begun = time.perf_counter()
    try:
        reply = command()
    except (RedisError, OSError) as error:
        metrics.redis_away.set(1)
        if not breaker.is_open:
            logger.warning("Redis does not answer: %s", error)
        breaker.failed()
        raise RedisAway from error
    if breaker.is_open:
        logger.info("Redis answers again")
        metrics.redis_away.set(0)
    metrics.redis_seconds.observe(time.perf_counter() - begun)
    breaker.succeeded()
    return reply


def _run(
    body: str, argv: Iterable[str | int | bytes], *, side_key: str = "", alias: str = "default", probe: bool = False
) -> list[Any]:
    keys = [KEY, STATE_KEY, side_key] if side_key else [KEY, STATE_KEY]
    ask = partial(_script(body), keys=keys, args=list(argv), client=client(alias))
    return cast("list[Any]", guarded(ask, probe=probe))


def apply(*, origin: str, first: int, last: int, totals: dict[str, int | None], alias: str = "default") -> bool:
    """Bring the copy from before event `first` to right after `last`; `False` when it was there already.

    `totals` holds, as of `last`, everyone whom these events touched; `None` takes a user off the board.
    Raises `Gap`, `Damaged` or `RedisAway`.
    """
    argv: list[str | int] = [origin, first, last]
    for user_id, total in totals.items():
        argv += (user_id, "" if total is None else total)
    (outcome,) = _run(_APPLY, argv, alias=alias)
    if outcome == b"behind":
        raise Gap
    if outcome not in (b"moved", b"done"):
        raise Damaged(outcome.decode())
    _newest.saw(origin, last)
    return bool(outcome == b"moved")


def catch_up(head: log.Head, *, alias: str = "default") -> bool:
    """Fold the events that the copy has not seen into it, up to `head` at least; `False` when it had seen them all.

    Raises `Damaged` or `RedisAway`.
    """
    moved = False
    while (current := state(alias=alias)) is not None and current.seq < head.seq:
        changes = log.totals_after(current.seq, limit=CATCH_UP_EVENTS)
        if not changes:
            raise Damaged("cut off from its log")
        totals = {change.user_id: change.total for change in changes}
        try:
            moved |= apply(origin=head.origin, first=current.seq + 1, last=changes[-1].seq, totals=totals, alias=alias)
        except Gap:  # the copy was swapped for an older one meanwhile: look again
            continue
    if current is None:
        raise Damaged("missing")
    return moved


def read(origin: str, questions: Sequence[Question]) -> Snapshot:
    """Answer all `questions` in one round trip, as of one moment. Raises `Damaged` or `RedisAway`.

    `Damaged` is also a copy that went back: what this process has once told it does not take back.
    """
    argv: list[str | int] = [origin, _newest.in_copy(origin)]
    for question in questions:
        if isinstance(question, PageQuestion):
            argv += ("page", question.offset, question.offset + question.limit - 1)
        else:
            argv += ("standing", question.user_id, "")
    outcome, *rest = _run(_READ, argv)
    if outcome != b"whole":
        raise Damaged(outcome.decode())
    seq, members, answers = rest
    try:
        found = [_decoded(q, a) for q, a in zip(questions, answers, strict=True)]
    except ValueError as error:  # a fraction, or a member that is no UTF-8: somebody else wrote to it
        raise Damaged("damaged") from error
    _newest.saw(origin, int(seq))
    return Snapshot(origin=origin, seq=int(seq), members=int(members), answers=found)


def _decoded(question: Question, answer: list[Any]) -> list[Entry] | Entry | None:
    if isinstance(question, StandingQuestion):
        return Entry(answer[0], question.user_id, int(answer[1])) if answer else None
    rank, rows = answer
    members = zip(rows[::2], rows[1::2], strict=True)
    return ranked(((member.decode(), int(score)) for member, score in members), rank=rank, offset=question.offset)


def ranked(rows: Iterable[tuple[str, int]], *, rank: int, offset: int) -> list[Entry]:
    """Entries of consecutive rows of the board, from the rank of the first: who has the same score shares it."""
    entries: list[Entry] = []
    for position, (user_id, score) in enumerate(rows, start=offset + 1):
        if entries and score != entries[-1].score:
            rank = position
        entries.append(Entry(rank, user_id, score))
    return entries


def state(*, alias: str = "default") -> State | None:
    """How the copy describes itself, or `None` when it does not. Raises `RedisAway`.

    Asks a Redis that is known to be away as well. The tail does so several times a second, which keeps the breaker's own
    probes from being due: as long as there is a tail, no request ever waits to find out.
    """
    origin, seq, members, size = _run(_STATE, [""], alias=alias, probe=True)
    if origin is None or seq is None or members is None:
        return None
    return State(origin.decode(), int(seq), int(members), size)


def rebuild(
    *, why: str = "", force: bool = False, progress: Callable[[int, int], None] = lambda done, total: None
) -> log.Head:
    """Fill the copy anew from the totals, while writes go on, and return the head that it now has caught up with.

    A snapshot at event S is streamed into a side key, swapped in together with its state in one step, then caught up.
    Readers see the old copy until the swap, and never a half one. Without `force` a whole copy that is further than the
    snapshot stays. `progress` is called with members done and in all. Raises `RedisAway` or `Damaged`.
    """
    started = time.monotonic()
    side_key = f"{KEY}:rebuild:{secrets.token_hex(8)}"
    log.head()  # starts the log when there is none, which the read-only transaction could not
    with log.snapshot() as head:
        done = 0
        rows = log.visible_totals(chunk=REBUILD_MEMBERS)
        while chunk := list(islice(rows, REBUILD_MEMBERS)):
            guarded(lambda chunk=chunk: client(BULK).zadd(side_key, dict(chunk)))  # type: ignore[misc]
            if done == 0:
                guarded(lambda: client(BULK).expire(side_key, SIDE_KEY_TTL_S))
            done += len(chunk)
            progress(done, head.members)
    (outcome,) = _run(_SWAP, [head.origin, head.seq, done, int(force)], side_key=side_key, alias=BULK)
    if outcome not in (b"moved", b"done"):
        raise Damaged(outcome.decode())
    head = log.head()
    catch_up(head, alias=BULK)
    _remember(Rebuilt(time.time(), time.monotonic() - started, head.members, head.seq, why))
    return head


def _remember(rebuilt: Rebuilt) -> None:
    try:
        guarded(lambda: client(BULK).set(REBUILT_KEY, json.dumps(rebuilt)))
    except RedisAway:
        pass  # the copy is what counts


def last_rebuild() -> Rebuilt | None:
    """The last rebuild of this Redis's copy, by whichever process; `None` when it knows of none. Raises `RedisAway`."""
    told = cast("bytes | None", guarded(lambda: client().get(REBUILT_KEY)))
    return Rebuilt(*json.loads(told)) if told else None


def totals_of(user_ids: Sequence[str], *, alias: str = "default") -> Totals:
    """What the copy has of these members (a thousand at most), whole or not. Raises `RedisAway`."""
    names = [user_id.encode(errors="surrogateescape") for user_id in user_ids]
    (origin, seq), scores = _run(_TOTALS, names, alias=alias)
    return Totals(
        (origin or b"").decode(), int(seq or 0), [None if score is None else _number(score) for score in scores]
    )


def _number(score: bytes) -> float:
    number = float(score)
    return int(number) if number.is_integer() else number


def mend(*, origin: str, seq: int, totals: dict[str, int | None]) -> int:
    """Set these members of a copy that is right after event `seq` to their totals, and return how many were wrong.

    Raises `Gap` when the copy is at another event, `Damaged` or `RedisAway`.
    """
    argv: list[str | int] = [origin, seq]
    for user_id, total in totals.items():
        argv += (user_id, "" if total is None else total)
    outcome, *rest = _run(_MEND, argv)
    if outcome == b"behind":
        raise Gap
    if outcome != b"moved":
        raise Damaged(outcome.decode())
    return int(rest[0])


def members(*, chunk: int) -> Iterator[list[str]]:
    """All members, about `chunk` at a time, each at least once (SCAN's promise). Raises `RedisAway`.

    Bytes that are no UTF-8, which only a foreign hand can have put there, become lone surrogates; `totals_of` knows them.
    """
    cursor = 0
    while True:
        position = cursor
        cursor, rows = guarded(
            lambda position=position: cast(
                "tuple[int, list[tuple[bytes, float]]]", client(BULK).zscan(KEY, position, count=chunk)
            )  # type: ignore[misc]
        )
        yield [member.decode(errors="surrogateescape") for member, _ in rows]
        if cursor == 0:
            return
