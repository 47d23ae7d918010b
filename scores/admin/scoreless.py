"""Players without points: they have events, of streams or of moderators, but no row in the list of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import connection, models
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scores.models import Block, ScoreEvent, UserScore
from scores.user_id import SERVICE_PREFIX, is_service, is_storable

if TYPE_CHECKING:
    from .standing import ShownScore

MAX_SHOWN = 100
MAX_LOOKED_AT = 1_000  # players whose ids begin with a search, with points or without
MAX_AHEAD = 1_000  # rows of each board counted for a position: a page must not count a million
MAX_BOARDS = 200
# From one user to the next by `score_events_of_user`: a look-up for each, however many events they have.
SEARCH_SQL = """
    WITH RECURSIVE found (user_id, number) AS (
        (SELECT user_id, 1 FROM score_events
         WHERE user_id >= %(prefix)s AND starts_with(user_id, %(prefix)s) ORDER BY user_id LIMIT 1)
        UNION ALL
        SELECT following.user_id, number + 1 FROM found CROSS JOIN LATERAL (
            SELECT user_id FROM score_events e WHERE e.user_id > found.user_id ORDER BY e.user_id LIMIT 1
        ) AS following
        WHERE number < %(most)s AND starts_with(following.user_id, %(prefix)s)
    )
    SELECT user_id FROM found WHERE NOT starts_with(user_id, %(service)s)
      AND NOT EXISTS (SELECT FROM user_scores u WHERE u.user_id = found.user_id)
    ORDER BY user_id LIMIT %(shown)s
"""
# The newest period that has begun of each board in which the user stands.
PLACES_SQL = """
    SELECT b.id, b.name, p.number, CASE WHEN b.sort_order = 'lower' THEN -s.key ELSE s.key END, s.hidden, s.reached_seq,
           ahead.counted
    FROM boards b
    CROSS JOIN LATERAL (
        SELECT number FROM periods WHERE board_id = b.id AND first_seq IS NOT NULL ORDER BY number DESC LIMIT 1
    ) AS p
    JOIN standings s ON s.board_id = b.id AND s.period = p.number AND s.user_id = %(user)s
    CROSS JOIN LATERAL (
        SELECT count(*) AS counted FROM (
            SELECT FROM standings o WHERE o.board_id = b.id AND o.period = p.number AND NOT o.hidden
              AND (o.key, o.tie, o.user_id) > (s.key, s.tie, s.user_id) LIMIT %(ahead)s
        ) AS those
    ) AS ahead
    ORDER BY b.name LIMIT %(boards)s
"""


def scoreless(user_ids: Sequence[str]) -> list[ShownScore]:
    """Those of `user_ids` who have events and no points, as unsaved rows without a score."""
    wanted = [user_id for user_id in user_ids if is_storable(user_id) and not is_service(user_id)]
    if not wanted:
        return []
    has_points = models.Exists(UserScore.objects.filter(user_id=models.OuterRef("user_id")))
    events = ScoreEvent.objects.filter(~has_points, user__in=wanted).order_by()
    found = sorted(events.values_list("user_id", flat=True).distinct())
    blocked = set(Block.objects.filter(user_id__in=found).values_list("user_id", flat=True))
    return [_row(user_id, is_blocked=user_id in blocked) for user_id in found]


def _row(user_id: str, *, is_blocked: bool) -> ShownScore:
    row: ShownScore = UserScore(user_id=user_id, score=None, updated_at=None)  # type: ignore[assignment,misc]
    row.blocked, row.rank = is_blocked, None
    return row


def search(prefix: str) -> list[str]:
    """The ids of players without points that begin so, among the first `MAX_LOOKED_AT` that do."""
    if not is_storable(prefix):
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            SEARCH_SQL, {"prefix": prefix, "service": SERVICE_PREFIX, "most": MAX_LOOKED_AT, "shown": MAX_SHOWN}
        )
        return [user_id for (user_id,) in cursor.fetchall()]


def blocked(prefix: str) -> list[str]:
    """The ids of blocked players without points that begin so."""
    if prefix and not is_storable(prefix):
        return []
    has_points = models.Exists(UserScore.objects.filter(user_id=models.OuterRef("user_id")))
    blocks = Block.objects.filter(~has_points, user_id__startswith=prefix).exclude(user_id__startswith=SERVICE_PREFIX)
    return list(blocks.order_by("user_id").values_list("user_id", flat=True)[:MAX_SHOWN])


def places(user_id: str) -> SafeString | None:
    """Where the user stands on the boards in their current periods, as a table; `None` if nowhere. One query."""
    with connection.cursor() as cursor:
        cursor.execute(PLACES_SQL, {"user": user_id, "ahead": MAX_AHEAD, "boards": MAX_BOARDS})
        rows = cursor.fetchall()
    if not rows:
        return None
    lines = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>',
        (
            (name, period, _position(counted, is_hidden=hidden), f"{score:,}", seq)
            for _, name, period, score, hidden, seq, counted in rows
        ),
    )
    head = '<tr><th scope="col">Board</th><th scope="col">Period</th><th scope="col">Position</th>'
    head += '<th scope="col">Score</th><th scope="col">With event</th></tr>'
    return format_html("<table><thead>{}</thead><tbody>{}</tbody></table>", SafeString(head), lines)


def _position(counted: int, *, is_hidden: bool) -> str:
    if is_hidden:
        return "blocked"
    return f"{counted + 1:,}" if counted < MAX_AHEAD else f"after {MAX_AHEAD:,}"
