from __future__ import annotations

from django.apps import AppConfig


class QueueAppConfig(AppConfig):
    name = "queue_app"
    verbose_name = "Background jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # They register themselves.
        from queue_app import checks
        from queue_app.observability import log  # noqa: F401
        from queue_app.scheduling import task_options  # noqa: F401

        checks.load_tasks_api()
