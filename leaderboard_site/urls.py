from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from leaderboard_site.operations.checkup import CheckupView
from leaderboard_site.operations.status import rebuild, status
from leaderboard_site.pages.board import board
from leaderboard_site.pages.reference import docs, openapi_schema
from scores.admin.engagement import engagement, engagement_file

urlpatterns = [
    path("api/docs", RedirectView.as_view(pattern_name="docs", permanent=True)),
    path("api/schema", RedirectView.as_view(pattern_name="schema", permanent=True)),
    path("api/docs/", docs, name="docs"),
    path("api/schema/", openapi_schema, name="schema"),
    path("api/", include("scores.api.urls")),
    path("admin/status/", status, name="status"),
    path("admin/status/rebuild/", rebuild, name="rebuild"),
    path("admin/engagement/", engagement, name="engagement"),
    path("admin/engagement/<slug:name>.csv", engagement_file, name="engagement_file"),
    path("admin/", admin.site.urls),
    path("healthz/deep", CheckupView.as_view()),
    path("", board),
]
handler400 = "leaderboard_site.edge.errors.bad_request"
handler500 = "leaderboard_site.edge.errors.server_error"
