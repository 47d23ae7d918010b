"""Results and the messages about them in the admin: to look at, and to send again."""

from __future__ import annotations

from datetime import UTC, datetime

from django.test import Client
from redis import Redis

from scores.boards import definitions
from scores.boards.documents import parse
from scores.models import BoardResult, WebhookDelivery

from .test_admin import logged_in
from .test_moderation import member_of, told

RESULTS = "/admin/scores/boardresult/"
DELIVERIES = "/admin/scores/webhookdelivery/"
SECRET = "sixteen characters"


def delivery() -> WebhookDelivery:
    fields = {"name": "week", "fold": "sum", "webhookUrl": "https://example.org/", "webhookSecret": SECRET}
    board = definitions.create(parse(fields))
    BoardResult.objects.create(
        board=board, period=1, place=1, user_id="ann", score=5, reached_seq=1, reward=500, refusal="user_blocked"
    )
    return WebhookDelivery.objects.create(board=board, period=1, attempts=20, last_error="It answered 503.")


def test_what_closed_is_listed(copy: Redis) -> None:
    delivery()
    client = logged_in(member_of("Admins", "ada"))
    page = client.get(RESULTS).content.decode()
    assert "ann" in page
    assert "user_blocked" in page
    assert client.get(f"{RESULTS}?q=ann").status_code == 200
    page = client.get(DELIVERIES).content.decode()
    assert "It answered 503." in page
    assert SECRET not in page


def retried(client: Client, row: WebhookDelivery) -> object:
    return client.post(DELIVERIES, {"action": "retry", "_selected_action": [row.id]})


def test_an_admin_sends_again_what_was_given_up(copy: Redis) -> None:
    row = delivery()
    answer = retried(logged_in(member_of("Admins", "ada")), row)
    assert told(answer) == ["1 of them will be sent within a second or so. What was delivered stays so."]
    row.refresh_from_db()
    assert row.attempts == 0
    assert row.next_at is not None
    assert row.next_at <= datetime.now(UTC)


def test_a_moderator_does_not(copy: Redis) -> None:
    row = delivery()
    client = logged_in(member_of("Moderators", "mia"))
    assert client.get(RESULTS).status_code == 200
    retried(client, row)
    row.refresh_from_db()
    assert row.next_at is None
