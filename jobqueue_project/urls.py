"""Addresses of the project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("queue_app.api.urls")),
    path("health/", include("queue_app.health")),
]
