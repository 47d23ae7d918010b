"""A follower of boards, its copies, and a reader of both stores."""

from __future__ import annotations

import pytest
from redis import Redis

from scores import board_selectors
from scores.board import LEADERBOARD
from scores.boards.catalogue import Catalogue
from scores.boards.copies import BoardCopies
from scores.boards.follower import BoardFollower
from scores.log.head import log
from scores.projection.tail import tail


@pytest.fixture
def copies(redis: Redis) -> BoardCopies:
    return BoardCopies(LEADERBOARD)


@pytest.fixture
def follower(copies: BoardCopies) -> BoardFollower:
    return BoardFollower(log, copies)


@pytest.fixture
def reader(copies: BoardCopies) -> board_selectors.BoardReader:
    return board_selectors.BoardReader(Catalogue(log), copies, tail, log)
