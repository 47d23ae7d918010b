"""Moderators take back what cheaters got: one event, or all since a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from redis import Redis

from scores.admin import voids
from scores.log.audit import wrong_totals
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.voidable import first_seq_since
from scores.log.writer import writer
from scores.models import Board, ScoreEvent, UserScore

from .test_admin import logged_in
from .test_moderation import member_of, told

EVENTS = "/admin/scores/scoreevent/"
LONG_AGO = {"since_0": "2020-01-01", "since_1": "00:00:00"}


@pytest.fixture
def moderator(copy: Redis) -> Client:
    return logged_in(member_of("Moderators", "mia"))


def void(client: Client, **fields: Any) -> Any:
    return client.post(f"{EVENTS}void/", {"reason": "bots", **fields})


def totals() -> dict[str, int]:
    return dict(UserScore.objects.values_list("user_id", "score"))


def play(*users: str) -> None:
    writer.record([Change(Kind.INCREMENT, user, 10) for user in users])


def test_one_event_is_voided_from_its_page(moderator: Client) -> None:
    play("ann", "ann")
    assert "?event=1" in moderator.get(f"{EVENTS}1/change/").content.decode()
    assert "Void event 1 of ann" in moderator.get(f"{EVENTS}void/?event=1").content.decode()

    answer = void(moderator, event=1)

    assert (answer.status_code, answer.url) == (302, f"{EVENTS}1/change/")
    assert told(answer) == ["Event 1 was voided in event 3."]
    assert totals() == {"ann": 10}
    event = ScoreEvent.objects.get(seq=3)
    assert (event.voids, event.actor, event.reason) == (1, "mia", "bots")
    assert LogEntry.objects.get().change_message == "Voided in event 3: bots"
    assert "event 3" in moderator.get(f"{EVENTS}1/change/").content.decode()
    assert "event 1" in moderator.get(f"{EVENTS}3/change/").content.decode()


def test_what_was_voided_already_is_told(moderator: Client) -> None:
    play("ann")
    void(moderator, event=1)

    assert told(void(moderator, event=1))[-1] == "Event 1 was not voided: This event was voided already."


def test_all_of_a_user_since_a_moment(moderator: Client) -> None:
    Board.objects.create(name="laps", fold="best", stream="laps")
    play("ann", "bob", "ann")
    writer.record([Change(Kind.SCORE, "ann", -7, stream="laps"), Change(Kind.CORRECTION, "bob", 5)])

    answer = void(moderator, user="ann", **LONG_AGO)

    assert (answer.status_code, told(answer)) == (302, ["3 events were voided."])
    assert totals() == {"ann": 0, "bob": 5}
    assert set(ScoreEvent.objects.filter(kind="void").values_list("voids", flat=True)) == {1, 3, 4}
    assert wrong_totals(log) == []


def test_all_of_a_game_server(moderator: Client) -> None:
    play("ann")
    writer.record([Change(Kind.INCREMENT, user, 3, actor="service:arena") for user in ("ann", "bob")])

    assert told(void(moderator, actor="service:arena", **LONG_AGO)) == ["2 events were voided."]

    assert totals() == {"ann": 10, "bob": 0}


def test_what_is_older_stays(moderator: Client) -> None:
    play("ann")
    play("ann")
    between = ScoreEvent.objects.get(seq=2).created_at
    assert first_seq_since(log, between) == 2
    assert first_seq_since(log, between + timedelta(microseconds=1)) == 3
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    fields = {"since_0": tomorrow.strftime("%Y-%m-%d"), "since_1": "00:00:00"}

    assert told(void(moderator, user="ann", **fields)) == ["0 events were voided."]
    assert totals() == {"ann": 20}


def test_a_run_that_takes_long_goes_on_where_it_stopped(moderator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        play(*["ann"] * 512)
    writer.record([Change(Kind.BLOCK, "ann")])  # as one does first
    monkeypatch.setattr(voids, "MAX_S", 1e-9)  # one transaction a request

    answers = [void(moderator, user="ann", **LONG_AGO)]
    while answers[-1].status_code == 200:
        assert "<progress" in answers[-1].content.decode()
        answers.append(void(moderator, user="ann", **LONG_AGO))

    assert 3 <= len(answers) <= 5
    assert totals() == {"ann": 0}
    assert ScoreEvent.objects.filter(kind="void", hidden=True).count() == 1536


def test_a_reason_is_needed(moderator: Client) -> None:
    play("ann")

    answer = void(moderator, event=1, reason=" ")

    assert (answer.status_code, totals()) == (200, {"ann": 10})


@pytest.mark.parametrize(
    "asked", [{}, {"event": "2"}, {"event": "x"}, {"event": "9" * 30}, {"user": "a\0"}, {"user": "a", "actor": "b"}]
)
def test_there_is_nothing_to_void(moderator: Client, asked: dict[str, str]) -> None:
    assert moderator.get(f"{EVENTS}void/", asked).status_code == 404


def test_viewers_void_nothing(copy: Redis) -> None:
    viewer = logged_in(member_of("Viewers", "vic"))
    play("ann")

    assert void(viewer, event=1).status_code == 403
    assert "void/" not in viewer.get(f"{EVENTS}1/change/").content.decode()
    assert totals() == {"ann": 10}
