from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from .page import board

urlpatterns = [
    path("api/", include("scores.urls")),
    path("admin/", admin.site.urls),
    path("", board),
]
handler400 = "leaderboard_site.errors.bad_request"
handler500 = "leaderboard_site.errors.server_error"
