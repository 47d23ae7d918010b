"""The API, under /api/v1/. The views of tokens are under auth/, which Django's own handler serves."""

from __future__ import annotations

from django.urls import path, re_path, register_converter
from django.urls.converters import StringConverter

from .analytics import ActionsView, ActiveView, HoursView, NewPlayersView, RetentionView, SocketsView
from .batch import BatchView
from .board_reads import BoardPeriodsView, BoardUserView
from .boards import BoardsView, BoardView
from .queued import QueuedView
from .results import BoardResultsView
from .submissions import SubmissionView, UserSubmissionView
from .tokens import LogoutView, RefreshView, RegisterView, SignInView
from .views import IncrementView, LeaderboardView, MeView, UserIncrementView, UserView, no_such_address
from .voids import VoidView


class AnyTextConverter(StringConverter):
    """Slashes and line breaks, too, so that a view can say what is wrong with an id."""

    regex = "(?s:.+)"


register_converter(AnyTextConverter, "any")

urlpatterns = [
    path("v1/scores/increment", IncrementView.as_view()),
    path("v1/scores/batch", BatchView.as_view()),
    path("v1/scores/queued/<any:key>", QueuedView.as_view()),
    path("v1/leaderboard", LeaderboardView.as_view()),
    path("v1/users/<any:user_id>/scores/increment", UserIncrementView.as_view()),
    path("v1/users/<any:user_id>", UserView.as_view()),
    path("v1/boards", BoardsView.as_view()),
    path("v1/boards/<str:board>", BoardView.as_view()),
    path("v1/me", MeView.as_view()),
    path("v1/boards/<str:board>/periods", BoardPeriodsView.as_view()),
    path("v1/boards/<str:board>/results", BoardResultsView.as_view()),
    path("v1/boards/<str:board>/scores", SubmissionView.as_view()),
    path("v1/boards/<str:board>/users/<any:user_id>/scores", UserSubmissionView.as_view()),
    path("v1/boards/<str:board>/users/<any:user_id>", BoardUserView.as_view()),
    path("v1/events/<str:event_id>/void", VoidView.as_view()),
    path("v1/analytics/active", ActiveView.as_view()),
    path("v1/analytics/new-players", NewPlayersView.as_view()),
    path("v1/analytics/retention", RetentionView.as_view()),
    path("v1/analytics/hours", HoursView.as_view()),
    path("v1/analytics/actions", ActionsView.as_view()),
    path("v1/analytics/sockets", SocketsView.as_view()),
    path("v1/auth/register", RegisterView.as_view()),
    path("v1/auth/token", SignInView.as_view()),
    path("v1/auth/refresh", RefreshView.as_view()),
    path("v1/auth/logout", LogoutView.as_view()),
    re_path("", no_such_address),
]
