"""The tables. Nothing here decides: see `scores.services` for writes and `scores.selectors` for reads."""

from __future__ import annotations

from .accounts import EndedAccount, ServiceToken
from .boards import BOARD_NAME, RESERVED, Board, BoardPosition, BoardResult, BoardStanding, Period, WebhookDelivery
from .engagement import (
    EngagementDay,
    EngagementHour,
    EngagementPlayer,
    EngagementPosition,
    EngagementSockets,
    EngagementWeek,
)
from .followers import Follower
from .log import ACTION_NAME, MAX_TOTAL, Action, Block, Leaderboard, ScoreEvent, UserScore
from .streams import QueuedRefusal

__all__ = [
    "ACTION_NAME",
    "BOARD_NAME",
    "MAX_TOTAL",
    "RESERVED",
    "Action",
    "Block",
    "Board",
    "BoardPosition",
    "BoardResult",
    "BoardStanding",
    "EndedAccount",
    "EngagementDay",
    "EngagementHour",
    "EngagementPlayer",
    "EngagementPosition",
    "EngagementSockets",
    "EngagementWeek",
    "Follower",
    "Leaderboard",
    "Period",
    "QueuedRefusal",
    "ScoreEvent",
    "ServiceToken",
    "UserScore",
    "WebhookDelivery",
]
