"""Workers: running and past ones, with their status."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from queue_app.admin.base import RecordAdmin
from queue_app.admin.display import folded, link_to_list
from queue_app.admin.duties import page
from queue_app.admin.filters import StatusFilter
from queue_app.domain.states import JobState
from queue_app.models import Job, Worker


@admin.register(Worker)
class WorkerAdmin(RecordAdmin):
    """One run of `runworker`. Read-only."""

    change_list_template = "admin/queue_app/worker/change_list.html"

    list_display = (
        "id",
        "hostname",
        "pid",
        "health",
        "queues",
        "processes",
        "slots",
        "release",
        "heartbeat_at",
    )
    list_filter = (StatusFilter,)
    search_help_text = (
        "A worker's id, or the beginning of it (8 digits or more), or the beginning of a host's name."
    )
    text_field = "hostname"
    fields = (
        "id",
        "hostname",
        "pid",
        "health",
        "running",
        "queues",
        "processes",
        "slots",
        "release",
        "tasks_known",
        "started_at",
        "heartbeat_at",
        "last_claim_at",
        "stopped_at",
        "refused",
    )
    readonly_fields = fields
    heavy = ("tasks",)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.duties)
        return [path("duties/", view, name="queue_app_worker_duties"), *super().get_urls()]

    def duties(self, request: HttpRequest) -> HttpResponse:
        """The page of the maintenance duties, which the leader runs."""
        return page(request, self)

    @admin.display(description="Status")
    def health(self, worker: Worker) -> str:
        return worker.status

    @admin.display(description="Tasks")
    def tasks_known(self, worker: Worker) -> str:
        return folded(f"{len(worker.tasks):,}", "\n".join(worker.tasks))

    @admin.display(description="Jobs")
    def running(self, worker: Worker) -> str:
        query = f"state__exact={JobState.RUNNING.value}&worker_id__exact={worker.pk}"
        return link_to_list(Job, query, "Jobs that it runs")
