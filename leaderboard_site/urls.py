from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from .checkup import CheckupView
from .page import board
from .reference import docs, schema
from .status import rebuild, status

urlpatterns = [
    path("api/docs/", docs, name="docs"),
    path("api/schema/", schema, name="schema"),
    path("api/", include("scores.api.urls")),
    path("admin/status/", status, name="status"),
    path("admin/status/rebuild/", rebuild, name="rebuild"),
    path("admin/", admin.site.urls),
    path("healthz/deep", CheckupView.as_view()),
    path("", board),
]
handler400 = "leaderboard_site.errors.bad_request"
handler500 = "leaderboard_site.errors.server_error"
