from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from .checkup import CheckupView
from .page import board

urlpatterns = [
    path("api/", include("scores.urls")),
    path("admin/", admin.site.urls),
    path("healthz/deep", CheckupView.as_view()),
    path("", board),
]
