"""Attempts: every run of a job that has ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin

from queue_app import clock
from queue_app.admin.base import RecordAdmin
from queue_app.admin.display import error_line, link, seconds_between, text_block
from queue_app.admin.rights import payload
from queue_app.models import Attempt, Job, Worker


@admin.register(Attempt)
class AttemptAdmin(RecordAdmin):
    """How one run of a job ended. Read-only."""

    heavy = payload_fields = ("traceback",)
    id_field = "job_id"
    list_display = ("__str__", "number", "state", error_line, "started_at", "finished_at")
    list_filter = ("state",)
    search_help_text = (
        "A job's id, or the beginning of it (8 digits or more), or the beginning of an exception's path."
    )
    text_field = "error_class"
    fields = (
        "job_link",
        "number",
        "state",
        "worker",
        "started_at",
        "finished_at",
        "run_time",
        "error_class",
        "error",
        "traceback_text",
    )
    readonly_fields = fields

    def row_time(self, pk: Any) -> datetime:
        """The key holds no time, so use `finished_at`, which is close to it."""
        row = Attempt.objects.filter(pk__gte=pk).order_by("pk").values_list("finished_at", flat=True)[:1]
        return next(iter(row), clock.now())

    @admin.display(description="Job")
    def job_link(self, attempt: Attempt) -> str:
        return link(Job, attempt.job_id)

    @admin.display(description="Worker")
    def worker(self, attempt: Attempt) -> str:
        return link(Worker, attempt.worker_id)

    @admin.display(description="Ran for")
    def run_time(self, attempt: Attempt) -> str:
        return seconds_between(attempt.started_at, attempt.finished_at)

    @admin.display(description="Traceback")
    def traceback_text(self, attempt: Attempt) -> str:
        return payload(attempt, lambda: text_block(attempt.traceback))
