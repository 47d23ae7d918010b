"""What a process knows of boards, and what it can still tell while it cannot ask."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from scores.board import LEADERBOARD
from scores.board_selectors import BoardPage, BoardReader, PageOf, PeriodsOf
from scores.boards import definitions
from scores.boards.catalogue import Catalogue
from scores.boards.copies import BoardCopies
from scores.boards.documents import parse
from scores.boards.follower import BoardFollower
from scores.exceptions import BoardBuilding, BoardUnknown, NoStoreAnswers
from scores.log.head import log
from scores.projection.tail import tail
from tests.conftest import empty_board


@pytest.fixture
def catalogue(board: None) -> Catalogue:
    return Catalogue(log)


def make(name: str, **fields: Any) -> int:
    return int(definitions.create(parse({"name": name, "fold": "sum"} | fields)).id)


def test_a_log_that_begins_anew_has_other_boards(catalogue: Catalogue) -> None:
    make("weekly")
    before = catalogue.board("weekly").board.id
    empty_board()
    after = make("weekly")  # by as many changes

    catalogue.look(now=True)

    assert before != after == catalogue.board("weekly").board.id


def test_its_boards_are_looked_at_as_soon_as_the_process_knows_of_it(catalogue: Catalogue) -> None:
    """Not a quarter of a second later: until then, answers were about a board of the earlier log."""
    make("weekly")
    before = catalogue.board("weekly").board.id
    empty_board()
    after = make("weekly")

    log.head()

    assert before != after == catalogue.board("weekly").board.id


def test_a_silent_database_is_not_waited_for(catalogue: Catalogue, rival: BaseDatabaseWrapper) -> None:
    board = make("weekly")
    catalogue.look()
    with pytest.raises(BoardUnknown):
        catalogue.board("daily")
    with rival.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE leaderboards")

        assert catalogue.board("weekly", is_away=True).board.id == board
        with pytest.raises(NoStoreAnswers):
            catalogue.board("daily", is_away=True)


def test_a_board_that_was_deleted_a_moment_ago_is_unknown_and_one_made_anew_is_new(
    catalogue: Catalogue, redis: Any
) -> None:
    reader = BoardReader(catalogue, BoardCopies(LEADERBOARD), tail, log)
    asked = [PageOf("weekly", "current", 10, 0)]
    make("weekly")
    catalogue.look(now=True)

    definitions.delete("weekly")
    make("weekly")
    assert [type(answer) for answer in reader.answer(asked)] == [BoardBuilding]

    definitions.delete("weekly")
    assert [type(answer) for answer in reader.answer(asked)] == [BoardUnknown]


def test_a_question_that_the_database_cannot_answer_ends_no_other(
    catalogue: Catalogue, redis: Any, rival: BaseDatabaseWrapper
) -> None:
    copies = BoardCopies(LEADERBOARD)
    follower, reader = BoardFollower(log, copies), BoardReader(catalogue, copies, tail, log)
    make("weekly")
    while any([follower.build(), follower.project(), follower.tend(), follower.fold()]):
        pass
    catalogue.look(now=True)
    with rival.cursor() as cursor:
        cursor.execute("ALTER TABLE periods RENAME TO elsewhere")
        try:
            page, periods, past = reader.answer(
                [PageOf("weekly", "current", 10, 0), PeriodsOf("weekly", 10, 0), PageOf("weekly", "2026-11-26", 10, 0)]
            )
        finally:
            cursor.execute("ALTER TABLE elsewhere RENAME TO periods")

    assert isinstance(page, BoardPage)
    assert isinstance(periods, NoStoreAnswers)
    assert isinstance(past, NoStoreAnswers)
