"""The API, under /api/v1/. The views of tokens are under auth/, which Django's own handler serves."""

from __future__ import annotations

from django.urls import path, re_path

from .tokens import LogoutView, RefreshView, RegisterView, SignInView
from .views import IncrementView, LeaderboardView, MeView, UserIncrementView, UserView, no_such_address

urlpatterns = [
    path("v1/scores/increment", IncrementView.as_view()),
    path("v1/leaderboard", LeaderboardView.as_view()),
    path("v1/users/<path:user_id>/scores/increment", UserIncrementView.as_view()),
    path("v1/users/<path:user_id>", UserView.as_view()),
    path("v1/me", MeView.as_view()),
    path("v1/auth/register", RegisterView.as_view()),
    path("v1/auth/token", SignInView.as_view()),
    path("v1/auth/refresh", RefreshView.as_view()),
    path("v1/auth/logout", LogoutView.as_view()),
    re_path("", no_such_address),
]
