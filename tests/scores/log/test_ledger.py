"""What each change does to the totals, and what it refuses to."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scores.exceptions import (
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
    TotalOutOfRange,
    TotalTooLarge,
    UnknownEvent,
    UserBlocked,
)
from scores.log.ledger import Change, Keyed, Kind, Ledger, Recorded, Rule, StreamRule, Taken, Voidable
from scores.models import MAX_TOTAL

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def ledger(**changed: Any) -> Ledger:
    """At event 7: ann has 10, bob has 20 and is blocked, and ann's key "k" brought her 4 points in event 3."""
    whole: dict[str, Any] = {
        "seq": 7,
        "members": 1,
        "totals": {"ann": 10, "bob": 20},
        "blocked": {"bob"},
        "keyed": {("ann", "k"): Keyed(seq=3, points=4, total=4)},
    }
    return Ledger(**whole | changed)


# Taken


def test_an_increment_adds_to_the_total() -> None:
    book = ledger()

    assert book.decide(Change(Kind.INCREMENT, "ann", 5)) == Recorded(seq=8, total=15)
    assert book.decide(Change(Kind.INCREMENT, "ann", 1)) == Recorded(seq=9, total=16)
    assert (book.totals["ann"], book.members) == (16, 1)


def test_the_first_increment_of_a_user_makes_a_member() -> None:
    book = ledger()

    assert book.decide(Change(Kind.INCREMENT, "cid", 5)) == Recorded(seq=8, total=5)
    assert (book.totals["cid"], book.members) == (5, 2)


def test_a_correction_sets_the_total_and_its_event_says_by_how_much() -> None:
    book = ledger()

    book.decide(Change(Kind.CORRECTION, "ann", 3, actor="admin", reason="a bug"))

    (event,) = book.events
    assert (event.points, event.total, event.actor, event.reason) == (-7, 3, "admin", "a bug")


def test_a_correction_can_make_a_member_of_nothing() -> None:
    book = ledger()

    assert book.decide(Change(Kind.CORRECTION, "cid", 0)) == Recorded(seq=8, total=0)
    assert book.members == 2


def test_a_block_hides_the_total_and_an_unblock_shows_it_again() -> None:
    book = ledger()

    assert book.decide(Change(Kind.BLOCK, "ann")) == Recorded(seq=8, total=10)
    assert (book.members, book.blocked) == (0, {"ann", "bob"})
    assert book.decide(Change(Kind.UNBLOCK, "ann")) == Recorded(seq=9, total=10)
    assert (book.members, book.blocked) == (1, {"bob"})
    assert [event.points for event in book.events] == [0, 0]


def test_a_name_can_be_blocked_before_anybody_scores_with_it() -> None:
    book = ledger()

    assert book.decide(Change(Kind.BLOCK, "cid")) == Recorded(seq=8, total=0)
    assert book.decide(Change(Kind.UNBLOCK, "cid")) == Recorded(seq=9, total=0)
    assert (book.members, "cid" in book.totals) == (1, False)
    assert [event.stream for event in book.events] == ["", ""]  # nothing that the default board needs to know


def test_a_key_is_written_into_its_event() -> None:
    book = ledger()

    book.decide(Change(Kind.INCREMENT, "ann", 5, "new"))

    assert book.events[0].idempotency_key == "new"
    assert book.decide(Change(Kind.INCREMENT, "ann", 5, "new")) == Recorded(seq=8, total=15, replayed=True)
    assert len(book.events) == 1


def test_the_kind_of_an_event_is_plain_text() -> None:
    """The driver would store the name of an enum's member."""
    book = ledger()

    book.decide(Change(Kind.INCREMENT, "ann", 5))

    assert type(book.events[0].kind) is str


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({}, id="as it was"),
        pytest.param({"blocked": {"ann"}}, id="though blocked since"),
        pytest.param({"totals": {"ann": MAX_TOTAL}}, id="though at the cap since"),
    ],
)
def test_a_known_key_is_answered_as_it_was(changed: dict[str, Any]) -> None:
    book = ledger(**changed)

    assert book.decide(Change(Kind.INCREMENT, "ann", 4, "k")) == Recorded(seq=3, total=4, replayed=True)
    assert book.events == []


# Refused


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        pytest.param(Change(Kind.INCREMENT, "ann", MAX_TOTAL - 9), TotalTooLarge, id="increment past the cap"),
        pytest.param(Change(Kind.INCREMENT, "cid", MAX_TOTAL + 1), TotalTooLarge, id="first one past the cap"),
        pytest.param(Change(Kind.INCREMENT, "bob", 1), UserBlocked, id="increment of the blocked"),
        pytest.param(Change(Kind.INCREMENT, "ann", 5, "k"), KeyReused, id="key with other points"),
        pytest.param(Change(Kind.CORRECTION, "ann", -1), TotalOutOfRange, id="correction below 0"),
        pytest.param(Change(Kind.CORRECTION, "ann", MAX_TOTAL + 1), TotalOutOfRange, id="correction past the cap"),
        pytest.param(Change(Kind.CORRECTION, "bob", 1), UserBlocked, id="correction of the blocked"),
        pytest.param(Change(Kind.BLOCK, "bob"), AlreadyBlocked, id="block of the blocked"),
        pytest.param(Change(Kind.UNBLOCK, "ann"), NotBlocked, id="unblock of the unblocked"),
        pytest.param(Change(Kind.UNBLOCK, "nobody"), NotBlocked, id="unblock of nobody"),
    ],
)
def test_a_refusal_changes_nothing(change: Change, refusal: type[Refused]) -> None:
    book = ledger()
    before = copy.deepcopy(book)

    with pytest.raises(refusal):
        book.decide(change)

    assert book == before


def test_the_cap_itself_is_taken() -> None:
    assert ledger().decide(Change(Kind.INCREMENT, "ann", MAX_TOTAL - 10)).total == MAX_TOTAL
    assert ledger().decide(Change(Kind.CORRECTION, "ann", MAX_TOTAL)).total == MAX_TOTAL


def test_a_refused_change_does_not_fail_its_neighbours() -> None:
    book = ledger()
    changes = [Change(Kind.INCREMENT, user_id, 1) for user_id in ("ann", "bob", "ann")]

    outcomes = [book.try_decide(change) for change in changes]

    assert outcomes[0] == Recorded(seq=8, total=11)
    assert isinstance(outcomes[1], UserBlocked)
    assert outcomes[2] == Recorded(seq=9, total=12)


def test_a_key_whose_request_was_refused_is_free() -> None:
    book = ledger()

    assert isinstance(book.try_decide(Change(Kind.INCREMENT, "ann", MAX_TOTAL, "new")), TotalTooLarge)
    assert book.decide(Change(Kind.INCREMENT, "ann", 1, "new")) == Recorded(seq=8, total=11)


# Scores of streams


def laps(**fields: Any) -> Ledger:
    rule: dict[str, Any] = {
        "stream": "laps",
        "is_archived": False,
        "least": -5,
        "most": 100,
        "services_only": False,
        "is_between_seasons": False,
    } | fields
    book = ledger()
    book.streams["laps"] = StreamRule(**rule)
    return book


def lap(user_id: str, score: int, key: str | None = None, actor: str = "") -> Change:
    return Change(Kind.SCORE, user_id, score, key, actor, stream="laps")


def test_a_score_of_a_stream_touches_no_total() -> None:
    book = laps()

    assert book.decide(lap("ann", -5)) == Recorded(seq=8, total=-5)
    assert book.decide(lap("cid", 100)) == Recorded(seq=9, total=100)

    assert (book.totals, book.members) == (ledger().totals, 1)
    assert [(e.kind, e.points, e.total, e.stream) for e in book.events] == [
        ("score", -5, 10, "laps"),
        ("score", 100, 0, "laps"),
    ]


@pytest.mark.parametrize(
    ("book", "change", "refusal"),
    [
        (ledger(), lap("ann", 1), BoardUnknown),
        (laps(stream=None), lap("ann", 1), BoardHasNoStream),
        (laps(stream="races"), lap("ann", 1), BoardHasNoStream),
        (laps(is_archived=True), lap("ann", 1), BoardArchived),
        (laps(is_between_seasons=True), lap("ann", 1), BoardNotOpen),
        (laps(services_only=True), lap("ann", 1), OnlyServices),
        (laps(), lap("ann", -6), ScoreOutOfRange),
        (laps(), lap("ann", 101), ScoreOutOfRange),
        (laps(), lap("bob", 1), UserBlocked),
        (laps(), lap("service:game", 1), ServiceHasNoScore),
    ],
)
def test_a_board_refuses_what_it_does_not_take(book: Ledger, change: Change, refusal: type[Refused]) -> None:
    assert isinstance(book.try_decide(change), refusal)
    assert book.events == []


def test_a_board_of_game_servers_takes_their_scores() -> None:
    assert laps(services_only=True).decide(lap("ann", 1, actor="service:game")).seq == 8


def test_one_key_is_one_request_whatever_it_was_for() -> None:
    book = laps()
    book.decide(Change(Kind.INCREMENT, "ann", 5, "i"))
    book.decide(lap("ann", 5, "s"))

    assert book.decide(lap("ann", 5, "s")) == Recorded(seq=9, total=5, replayed=True)
    for reused in (lap("ann", 6, "s"), lap("ann", 5, "i"), Change(Kind.INCREMENT, "ann", 5, "s")):
        assert isinstance(book.try_decide(reused), KeyReused)


# Voids


def with_event(**fields: Any) -> Ledger:
    """Event 3 of ann can be voided."""
    event: dict[str, Any] = {
        "user_id": "ann",
        "kind": "increment",
        "points": 4,
        "stream": None,
        "is_voided": False,
        "is_superseded": False,
    }
    book = ledger()
    book.voidable[3] = Voidable(**event | fields)
    return book


VOID = Change(Kind.VOID, "ann", voids=3, actor="mod", reason="cheated")


def test_a_void_takes_the_points_back() -> None:
    book = with_event()

    assert book.decide(VOID) == Recorded(seq=8, total=6)
    (event,) = book.events
    assert (event.points, event.total, event.voids, event.stream, event.hidden) == (-4, 6, 3, None, None)


def test_a_void_of_what_a_correction_has_superseded_leaves_the_total() -> None:
    book = with_event(is_superseded=True)

    assert book.decide(VOID) == Recorded(seq=8, total=10)
    assert book.events[0].points == 0


def test_a_void_of_a_score_touches_no_total() -> None:
    book = with_event(kind="score", points=99, stream="laps")

    assert book.decide(VOID) == Recorded(seq=8, total=10)
    assert (book.events[0].stream, book.totals["ann"]) == ("laps", 10)


def test_an_event_of_a_blocked_user_is_voided_out_of_sight() -> None:
    book = with_event(user_id="bob", points=1)
    book.totals["bob"] = 3
    members = book.members

    assert book.decide(VOID._replace(user_id="bob")).total == 2
    assert (book.events[0].hidden, book.members) == (True, members)


@pytest.mark.parametrize(
    ("book", "refusal"),
    [
        (ledger(), UnknownEvent),
        (with_event(user_id="cid"), UnknownEvent),
        (with_event(is_voided=True), AlreadyVoided),
        *((with_event(kind=kind), NotVoidable) for kind in ("void", "correction", "block", "unblock")),
        (with_event(points=11), TotalOutOfRange),  # somebody changed the table by hand
    ],
)
def test_what_cannot_be_voided_is_refused(book: Ledger, refusal: type[Refused]) -> None:
    assert isinstance(book.try_decide(VOID), refusal)
    assert book.events == []


def test_an_event_is_voided_once_in_one_transaction_as_well() -> None:
    book = with_event()

    book.decide(VOID)

    assert isinstance(book.try_decide(VOID), AlreadyVoided)


# Windows of actions


@pytest.mark.parametrize(
    ("rule", "actor", "refusal"),
    [
        (Rule(5, 0, None, starts_at=NOON), "", None),
        (Rule(5, 0, None, starts_at=NOON + SECOND), "", ActionNotOpen),
        (Rule(5, 0, None, ends_at=NOON), "", ActionNotOpen),
        (Rule(5, 0, None, ends_at=NOON + SECOND), "", None),
        (Rule(5, 0, None, services_only=True), "", OnlyServices),
        (Rule(5, 0, None, services_only=True), "service:game", None),
    ],
)
def test_an_action_counts_within_its_window_and_from_whom_it_may(
    rule: Rule, actor: str, refusal: type[Refused] | None
) -> None:
    book = ledger()
    book.at = NOON
    book.rules["win"] = rule
    book.taken["ann", "win"] = Taken(None, 0, 3600.0)

    outcome = book.try_decide(Change(Kind.INCREMENT, "ann", action="win", actor=actor))

    assert type(outcome) is (refusal or Recorded)


# Whatever comes

changes = st.builds(
    Change,
    st.sampled_from([Kind.INCREMENT, Kind.CORRECTION, Kind.BLOCK, Kind.UNBLOCK]),
    st.sampled_from(["ann", "bob", "cid"]),
    st.integers(-1, 3) | st.sampled_from([MAX_TOTAL - 1, MAX_TOTAL, MAX_TOTAL + 1]),
    st.none() | st.sampled_from(["k", "l"]),
).filter(lambda change: change.kind == Kind.INCREMENT or change.idempotency_key is None)
changes = changes.filter(lambda change: change.kind != Kind.INCREMENT or change.points >= 1)


@settings(deadline=None)
@given(st.lists(changes, max_size=30))
def test_the_events_add_up_to_the_totals_and_the_members(asked: list[Change]) -> None:
    book = Ledger(seq=0, members=0, totals={}, blocked=set(), keyed={})

    for change in asked:
        before = copy.deepcopy(book)
        if isinstance(book.try_decide(change), Refused):
            assert book == before

    board: dict[str, int | None] = {}
    sums: dict[str, int] = {}
    for seq, event in enumerate(book.events, start=1):
        if event.stream is not None:  # a block or unblock of somebody without a score
            assert (event.stream, event.points, event.total) == ("", 0, 0)
            assert event.user_id not in sums
            continue
        sums[event.user_id] = sums.get(event.user_id, 0) + event.points
        board[event.user_id] = None if event.kind == Kind.BLOCK else event.total
        assert event.seq == seq
        assert sums[event.user_id] == event.total
        assert 0 <= event.total <= MAX_TOTAL
    assert sums == book.totals
    assert {user for user, total in board.items() if total is None} == book.blocked & sums.keys()
    assert sum(total is not None for total in board.values()) == book.members
    assert book.seq == len(book.events)
