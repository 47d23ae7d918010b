"""The admin: scores, their events, and moderation."""

from __future__ import annotations

from django.contrib import admin

from . import accounts, actions, boards, closings, events, service_tokens, users
from .sign_in import SignInForm

__all__ = ["accounts", "actions", "boards", "closings", "events", "service_tokens", "users"]

admin.site.login_form = SignInForm
admin.site.site_header = admin.site.site_title = "Leaderboard"
