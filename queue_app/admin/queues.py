"""Queues and their settings. All changes go through `operations`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from queue_app.admin.audit_links import AuditLinksMixin
from queue_app.admin.base import ACTION_LIMIT, CappedPaginator, ModelAdmin, RecordChangeList, show_outages
from queue_app.admin.display import EMPTY
from queue_app.admin.reasons import ReasonForm, ReasonMixin, reason_of
from queue_app.admin.rights import RightsMixin
from queue_app.domain.rights import Right
from queue_app.models import Queue
from queue_app.operations import queues as operations
from queue_app.operations.actor import Actor
from queue_app.queries import queues as queries


class QueueChangeList(RecordChangeList):
    """A list of queues with their depths, read from Redis for all rows at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        depths = queries.depths_of([row.name for row in rows])
        for row in rows:
            row.depth = depths.get(row.name)
        self.result_list = rows


@admin.register(Queue)
class QueueAdmin(ReasonMixin, AuditLinksMixin, RightsMixin, ModelAdmin):
    """Edited by hand. A queue without a row has the defaults of the settings and is not paused."""

    edit_right = Right.OPERATE_QUEUE
    action_form = ReasonForm
    actions = ("pause_queues", "resume_queues")
    list_display = ("name", "paused", "waiting", "due_later", "max_attempts", "timeout")
    list_filter = ("paused",)
    list_per_page = 100
    ordering = ("name",)
    paginator = CappedPaginator
    search_fields = ("name__startswith",)
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return QueueChangeList

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (
            ("name",) if obj is not None else ()
        )  # the name is the key: another name would be another queue

    def save_model(self, request: HttpRequest, obj: Queue, form: Any, change: bool) -> None:
        """Save only the edited fields: another operator may have changed the others meanwhile."""
        actor, reason = Actor.of_request(request), reason_of(request)
        if change:
            values = {name: form.cleaned_data[name] for name in form.changed_data}
            operations.edit(actor, obj.name, values, reason=reason)
        else:
            operations.create(actor, obj, reason=reason)

    def delete_model(self, request: HttpRequest, obj: Queue) -> None:
        """Delete through `operations`, so that Redis no longer holds the queue as paused."""
        operations.delete(Actor.of_request(request), obj.name, reason=reason_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        for queue in queryset:
            self.delete_model(request, queue)

    @admin.display(description="Waiting")
    def waiting(self, queue: Queue) -> str:
        return self._depth(queue, "waiting")

    @admin.display(description="Due later")
    def due_later(self, queue: Queue) -> str:
        return self._depth(queue, "due_later")

    @staticmethod
    def _depth(queue: Queue, what: str) -> str:
        depth: dict[str, int] | None = getattr(queue, "depth", None)
        return EMPTY if depth is None else f"{depth[what]:,}"

    @admin.action(description="Pause selected queues", permissions=["change"])
    def pause_queues(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        self._each(request, queryset.filter(paused=False), operations.pause, "paused")

    @admin.action(description="Resume selected queues", permissions=["change"])
    def resume_queues(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        self._each(request, queryset.filter(paused=True), operations.resume, "resumed")

    def _each(
        self, request: HttpRequest, rows: QuerySet[Queue], verb: Callable[..., Queue], past_tense: str
    ) -> None:
        with show_outages(request):
            names = list(rows.values_list("name", flat=True)[:ACTION_LIMIT])
            for name in names:
                verb(Actor.of_request(request), name, reason=reason_of(request))
            level = messages.SUCCESS if names else messages.WARNING
            self.message_user(
                request, f"{past_tense.capitalize()}: {', '.join(names) or 'none, they were already'}.", level
            )
