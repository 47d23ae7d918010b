"""The comparison of a board with the closed form: its standings and its copy, each as of the event that it is at itself.

The standings are compared in one statement, in one snapshot. The copy moves on meanwhile, so whoever differs from the
standings is only a suspect: suspects are read from the copy again, all as of one event, and derived from the log as of
that very event. It repairs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import NamedTuple, TypeVar

from scores.exceptions import Damaged
from scores.log.head import Log
from scores.models import Board

from . import standings
from .copies import BoardCopies
from .fold import Rules, rules_of
from .history import derive

Item = TypeVar("Item")

CHUNK = 500  # users per script: a millisecond or two of Redis
MAX_DIFFERENCES = 10_000  # of the standings: more of them say no more
EXPECTED_SQL = "WITH expected (board_id, period, user_id, key, tie, reached_seq, hidden) AS MATERIALIZED ("
DIFFERENT_SQL = f"""
    ), found AS (
        SELECT s.* FROM standings s JOIN periods p ON p.board_id = s.board_id AND p.number = s.period
        WHERE s.board_id = %(board)s
    )
    SELECT period, user_id, e.key, e.reached_seq, e.hidden, f.key, f.reached_seq, f.hidden
    FROM expected e FULL JOIN found f USING (period, user_id)
    WHERE (e.key, e.tie, e.reached_seq, e.hidden) IS DISTINCT FROM (f.key, f.tie, f.reached_seq, f.hidden)
    ORDER BY period, user_id LIMIT {MAX_DIFFERENCES}
"""  # noqa: S608  constants


class Standing(NamedTuple):
    """What a user has in a period: the key, and the event that reached it. 0: by user id, in Redis, which has none."""

    key: float
    reached_seq: int
    hidden: bool = False


class Difference(NamedTuple):
    """What a user has to have, by the log, and what they have. `None`: they are not there."""

    period: int
    user_id: str
    expected: Standing | None
    found: Standing | None


class Compared(NamedTuple):
    """What came of one store. `seq` is the event that it is at; `None`: it does not have the board."""

    store: str
    seq: int | None
    compared: int
    differences: list[Difference]
    fault: str = ""  # why nothing of it can be used

    @property
    def equal(self) -> bool:
        return not (self.fault or self.differences)


def compare(log: Log, copies: BoardCopies, board: Board) -> list[Compared]:
    """The standings, then the copy. Raises `RedisAway` or Django's `DatabaseError`."""
    rules = rules_of(board)
    in_table = _compare_standings(log, rules)
    return [in_table, _compare_copy(log, copies, rules, in_table)]


def _compare_standings(log: Log, rules: Rules) -> Compared:
    with log.snapshot() as head, log.connection.cursor() as cursor:
        seq = standings.positions(cursor, log.name).get(rules.id)
        if seq is None:
            return Compared("standings", None, 0, [])
        if seq > head.seq:
            return Compared("standings", seq, 0, [], "ahead")
        differences = []
        if derive(cursor, rules, last=seq, users=None, into=EXPECTED_SQL, then=DIFFERENT_SQL):
            differences = [
                Difference(period, user_id, _standing(*columns[:3]), _standing(*columns[3:]))
                for period, user_id, *columns in cursor.fetchall()
            ]
        cursor.execute("SELECT count(*) FROM standings WHERE board_id = %s", [rules.id])
        return Compared("standings", seq, cursor.fetchone()[0], differences)


def _standing(key: int | None, seq: int | None, hidden: bool | None) -> Standing | None:
    return None if key is None else Standing(key, seq or 0, bool(hidden))


def _compare_copy(log: Log, copies: BoardCopies, rules: Rules, in_table: Compared) -> Compared:
    head = log.head()
    state = copies.state(head.origin)
    copied = state.boards.get(rules.id)
    fault = "" if state.fault == "missing" else state.fault
    if fault or copied is None:
        return Compared("redis", None, 0, [], fault)
    if copied.seq > log.head().seq:
        return Compared("redis", copied.seq, 0, [], "ahead")
    try:
        return _compare_periods(log, copies, rules, in_table, copied.from_period, copied.seq, head.origin)
    except Damaged as error:
        return Compared("redis", copied.seq, 0, [], error.reason)


def _compare_periods(
    log: Log, copies: BoardCopies, rules: Rules, in_table: Compared, from_period: int, seq: int, origin: str
) -> Compared:
    compared = 0
    suspects = {(d.period, d.user_id) for d in in_table.differences if d.period >= from_period}
    in_standings: dict[int, set[str]] = {period: set() for period in copies.state(origin).sizes.get(rules.id, {})}
    if in_table.seq is not None:
        with standings.rows_of(log, rules.id, from_period=from_period) as (_, rows):
            for period, of_period in groupby(rows, key=lambda row: row.period):
                for chunk in _batches(of_period, CHUNK):
                    found = copies.rows_of(origin, rules, period, [row.user_id for row in chunk])
                    expected = [(row.key, row.reached_seq if rules.is_first else 0) for row in chunk]
                    for row, there, right in zip(chunk, found[1] if found else (), expected, strict=bool(found)):
                        if there != right:
                            suspects.add((period, row.user_id))
                    compared += len(chunk)
                    in_standings.setdefault(period, set()).update(row.user_id for row in chunk)
    for period, users in in_standings.items():
        suspects |= {(period, member) for member in copies.members_of(rules, period) if member not in users}
    return Compared("redis", seq, compared, list(_settle(log, copies, rules, sorted(suspects), origin)))


def _settle(
    log: Log, copies: BoardCopies, rules: Rules, suspects: Sequence[tuple[int, str]], origin: str
) -> Iterable[Difference]:
    """Those who differ from the closed form as of the event that the copy is at."""
    for period, of_period in groupby(suspects, key=lambda suspect: suspect[0]):
        for chunk in _batches((user for _, user in of_period), CHUNK):
            found = copies.rows_of(origin, rules, period, chunk)
            if found is None:  # it has left meanwhile
                continue
            seq, rows = found
            right: dict[str, Standing] = {}
            with log.connection.cursor() as cursor:
                if derive(cursor, rules, last=seq, users=chunk):
                    right = {
                        user: Standing(key, reached if rules.is_first else 0)
                        for _, number, user, key, _, reached, hidden in cursor.fetchall()
                        if number == period and not hidden
                    }
            for user, row in zip(chunk, rows, strict=True):
                there = None if row is None else Standing(*row)
                if there != right.get(user):
                    yield Difference(period, user, right.get(user), there)


def _batches(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    rest = iter(items)
    while batch := tuple(islice(rest, size)):
        yield batch
