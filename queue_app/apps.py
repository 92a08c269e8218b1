from __future__ import annotations

from django.apps import AppConfig


class QueueAppConfig(AppConfig):
    name = "queue_app"
    verbose_name = "Background jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from queue_app import checks, log  # noqa: F401 - register themselves

        checks.load_tasks_api()
