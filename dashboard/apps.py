"""The dashboard as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """Reads the queue's models and metrics; nothing in `queue_app` knows that it exists."""

    name = "dashboard"
    verbose_name = "Job dashboard"
