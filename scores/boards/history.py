"""The closed form, in SQL: what all events of users up to some event come to, in every period of a board.

The fold and this must agree: a board is built by it, who was moderated is derived by it, and comparisons go by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.db.backends.utils import CursorWrapper

from scores.models import MAX_TOTAL, Board
from scores.user_id import SERVICE_PREFIX

from .fold import Rules

# The periods of the board that have begun by event `last`, as sorted arrays: `width_bucket` bisects them, so that an event
# finds its period in a log of years without a join. Of empty periods that begin with the same event, it finds the newest.
PERIODS_SQL = """
    SELECT array_agg(number ORDER BY number), array_agg(first_seq ORDER BY number),
           array_agg(coalesce(last_seq, 9223372036854775807) ORDER BY number)
    FROM periods WHERE board_id = %s AND first_seq <= %s
"""
# Events after `after` up to `upto` that count as of `last`, each in its period (the number of the bucket), with the sign of
# the order.
COUNTED_SQL = """
    SELECT e.user_id, e.seq, %(sign)s * e.points AS key, width_bucket(e.seq, %(firsts)s::bigint[]) AS bucket
    FROM score_events e
    WHERE e.seq > %(after)s AND e.seq <= %(upto)s AND {source} {users}
      AND NOT EXISTS (SELECT FROM score_events v WHERE v.voids = e.seq AND v.seq <= %(last)s)
"""
# For sums: a void of such an event is the last time that the sum changed.
TAKEN_BACK_SQL = """
    SELECT e.user_id, v.seq, NULL, width_bucket(e.seq, %(firsts)s::bigint[])
    FROM score_events v JOIN score_events e ON e.seq = v.voids
    WHERE v.voids IS NOT NULL AND v.seq > %(after)s AND v.seq <= %(upto)s AND {source} {users}
"""
SOURCES = {
    "stream": "e.kind = 'score' AND e.stream = %(stream)s",
    # What another board of this name had before may be no points. Sums of positive numbers alone have a bound that does not
    # depend on the order in which they are added.
    "points of a stream": "e.kind = 'score' AND e.stream = %(stream)s AND e.points > 0",
    "action": "e.kind = 'increment' AND e.stream IS NULL AND e.action = %(action)s",
    "points": "e.kind = 'increment' AND e.stream IS NULL AND e.actor <> %(rewarder)s",
}
ROWS = {
    Board.Fold.SUM.value: f"{COUNTED_SQL} UNION ALL {TAKEN_BACK_SQL}",
    Board.Fold.BEST.value: COUNTED_SQL,
    Board.Fold.LATEST.value: COUNTED_SQL,
}
# What rows come to. What that of each slice of the log comes to is what the log comes to.
SUM_SQL = "SELECT user_id, bucket, sum(key) AS key, max(seq) AS seq FROM ({rows}) AS rows GROUP BY user_id, bucket"
# Arrays, because `max` takes no rows before PostgreSQL 18. The larger key wins, of equal ones the earlier event.
BEST_SQL = """
    SELECT user_id, bucket, reached[1] AS key, -reached[2] AS seq FROM (
        SELECT user_id, bucket, max(ARRAY[key, -seq]) AS reached FROM ({rows}) AS rows GROUP BY user_id, bucket
    ) AS best
"""
LATEST_SQL = """
    SELECT user_id, bucket, reached[2] AS key, reached[1] AS seq FROM (
        SELECT user_id, bucket, max(ARRAY[seq, key]) AS reached FROM ({rows}) AS rows GROUP BY user_id, bucket
    ) AS latest
"""
FOLDS = {Board.Fold.SUM.value: SUM_SQL, Board.Fold.BEST.value: BEST_SQL, Board.Fold.LATEST.value: LATEST_SQL}
# Who is off the board as of an event: the newest of their blocks and unblocks is a block.
BLOCKED_SQL = """
    SELECT user_id FROM (
        SELECT DISTINCT ON (e.user_id) e.user_id, e.kind FROM score_events e
        WHERE e.kind IN ('block', 'unblock') AND e.seq <= %(last)s {users} ORDER BY e.user_id, e.seq DESC
    ) AS newest WHERE kind = 'block'
"""
# A sum of nothing but events that were taken back is NULL: whoever has it is not on the board.
STANDINGS_SQL = f"""
    SELECT %(board)s::int, (%(numbers)s::int[])[folded.bucket], folded.user_id,
           greatest(least(folded.key, {MAX_TOTAL}), -{MAX_TOTAL})::bigint,
           CASE WHEN %(is_first)s THEN -folded.seq ELSE 0 END, folded.seq, blocked.user_id IS NOT NULL
    FROM ({{folded}}) AS folded LEFT JOIN ({{blocked}}) AS blocked USING (user_id)
    WHERE folded.key IS NOT NULL AND folded.bucket > 0 AND NOT starts_with(folded.user_id, %(services)s)
"""  # noqa: S608  constants
SLICE = 250_000  # events: half a second
PARTS = 16  # of the users
# What each slice comes to, by users. A sum of a slice may be larger than a score.
SLICES_SQL = """
    CREATE TEMPORARY TABLE slices (user_id text COLLATE "C", bucket integer, key numeric, seq bigint)
    PARTITION BY HASH (user_id) ON COMMIT DROP
"""
PART_SQL = """
    CREATE TEMPORARY TABLE slices_{part} PARTITION OF slices FOR VALUES WITH (MODULUS {parts}, REMAINDER {part})
    ON COMMIT DROP
"""


def derive(
    cursor: CursorWrapper, board: Rules, *, last: int, users: Sequence[str] | None, into: str = "", then: str = ""
) -> bool:
    """Run the query for the standings of a board as of event `last`, of some users or of all; `into` begins it.

    `then` ends it, and may use `%(board)s`. Rows are board, period, user id, key, tie, reached seq, hidden. Returns
    `False` without a query if no period of the board had begun by then.
    """
    form = _form(cursor, board, last, users)
    if form is not None:
        cursor.execute(into + form.standings(form.rows) + then, form.parameters)
    return form is not None


def derive_in_slices(
    cursor: CursorWrapper, board: Rules, *, last: int, into: str, tell: Callable[[int, int], object]
) -> bool:
    """`derive` of all users, in statements that take half a second each: of slices of the log, then of parts of the users.

    For a transaction that sees one state of the log. `tell` hears after each statement how many of how many are done, and
    must not wait: the transaction has locks, and is ended when it idles.
    """
    if last <= SLICE:
        return derive(cursor, board, last=last, users=None, into=into)
    form = _form(cursor, board, last, None)
    if form is None:
        return False
    slices = [(after, min(after + SLICE, last)) for after in range(0, last, SLICE)]
    statements = len(slices) + PARTS
    cursor.execute(SLICES_SQL)
    for part in range(PARTS):
        cursor.execute(PART_SQL.format(part=part, parts=PARTS))
    for done, (after, upto) in enumerate(slices, 1):
        cursor.execute(f"INSERT INTO slices {form.folded(form.rows)}", form.parameters | {"after": after, "upto": upto})
        tell(done, statements)
    cursor.execute("ANALYZE slices")  # without, the planner sorts what it can hash
    for part in range(PARTS):
        cursor.execute(into + form.standings(f"TABLE slices_{part}"), form.parameters)
        tell(len(slices) + part + 1, statements)
    return True


class Form(NamedTuple):
    """The closed form of a board: its SQL, and the values of what is open in it."""

    fold: str
    rows: str
    blocked: str
    parameters: dict[str, Any]

    def folded(self, rows: str) -> str:
        return FOLDS[self.fold].format(rows=rows)

    def standings(self, rows: str) -> str:
        return STANDINGS_SQL.format(folded=self.folded(rows), blocked=self.blocked)


def _form(cursor: CursorWrapper, board: Rules, last: int, users: Sequence[str] | None) -> Form | None:
    """That as of event `last`; `None` if no period had begun by then."""
    cursor.execute(PERIODS_SQL, [board.id, last])
    numbers, firsts, lasts = cursor.fetchone()
    if numbers is None:
        return None
    source = "stream" if board.source.stream is not None else "action" if board.source.action is not None else "points"
    if source == "stream" and board.fold == Board.Fold.SUM:
        source = "points of a stream"
    of_users = "" if users is None else "AND e.user_id = ANY(%(users)s)"
    within = " AND e.seq <= (%(lasts)s::bigint[])[width_bucket(e.seq, %(firsts)s::bigint[])]"
    parameters = {
        "board": board.id,
        "sign": board.sign,
        "is_first": board.is_first,
        "stream": board.source.stream,
        "action": board.source.action,
        "rewarder": board.rewarder,
        "numbers": numbers,
        "firsts": firsts,
        "lasts": lasts,
        "after": 0,
        "upto": last,
        "last": last,
        "users": None if users is None else list(users),
        "services": SERVICE_PREFIX,
    }
    rows = ROWS[board.fold].format(source=SOURCES[source] + within, users=of_users)
    return Form(board.fold, rows, BLOCKED_SQL.format(users=of_users), parameters)
