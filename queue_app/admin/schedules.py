"""Schedules: edited by hand, with a look at when they are due; pause, resume and run now as actions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from queue_app.admin.audit_links import AuditLinksMixin
from queue_app.admin.base import ACTION_LIMIT, CappedPaginator, ModelAdmin, RecordChangeList, show_outages
from queue_app.admin.display import EMPTY, link
from queue_app.admin.filters import TaskFilter
from queue_app.admin.reasons import ReasonForm, ReasonMixin, reason_of
from queue_app.admin.rights import RightsMixin, may, payload
from queue_app.domain import cron
from queue_app.domain.rights import Right
from queue_app.domain.serialization import NO_ARGUMENTS
from queue_app.exceptions import QueueAppError, UnknownTask
from queue_app.models import Job, Schedule
from queue_app.operations import schedules as operations
from queue_app.operations.actor import Actor
from queue_app.tasks import registry

#: Runs that a schedule's page shows ahead.
UPCOMING_RUNS = 5
#: Jobs that an action's answer links to.
MAX_JOB_LINKS = 10


@admin.register(Schedule)
class ScheduleAdmin(ReasonMixin, AuditLinksMixin, RightsMixin, ModelAdmin):
    """Edited by hand by those who may manage schedules: they decide what workers run."""

    edit_right = Right.MANAGE_SCHEDULE
    payload_fields = ("arguments",)
    action_form = ReasonForm
    actions = ("pause_schedules", "resume_schedules", "run_schedules")
    fieldsets = (
        (None, {"fields": ("name", "task", "arguments")}),
        ("When", {"fields": ("cron", "zone", "jitter", "missed", "paused", "upcoming")}),
        ("Instead of the task's own", {"fields": ("queue", "priority")}),
        ("Until now", {"fields": ("last", "last_job", "error", "created_at")}),
    )
    list_display = ("name", "task", "cron", "zone", "next", "last", "state")
    list_filter = ("paused", TaskFilter)
    list_per_page = 100
    ordering = ("name",)
    paginator = CappedPaginator
    readonly_fields = ("upcoming", "last", "last_job", "error", "created_at")
    search_fields = ("name__startswith", "task__startswith")
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A user without `view_payload` cannot edit the stored arguments, but can set those of a new schedule."""
        if obj is None or may(request, Right.VIEW_PAYLOAD):
            return self.fieldsets
        return [(None, {"fields": ("name", "task", "masked_arguments")}), *self.fieldsets[1:]]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # With another task, arguments that this user may not see could be shown by an error.
        hides = obj is not None and not may(request, Right.VIEW_PAYLOAD) and obj.arguments != NO_ARGUMENTS
        return (*self.readonly_fields, "masked_arguments", *(("task",) if hides else ()))

    @admin.display(description="Arguments")
    def masked_arguments(self, schedule: Schedule) -> SafeString | str:
        return payload(schedule, lambda: schedule.arguments)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RecordChangeList]:
        return RecordChangeList

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:
        """Write what was edited, and nothing else: another operator may have changed the rest meanwhile. A task that is
        not known here is said, and allowed: its jobs wait for a worker that knows it."""
        actor, reason = Actor.of_request(request), reason_of(request)
        if change:
            keeps = "arguments" not in form.changed_data
            operations.change(actor, obj, form.changed_data, keeps_arguments=keeps, reason=reason)
        else:
            operations.create(actor, obj, reason=reason)
        if change and "task" not in form.changed_data:
            return  # importing the task's module may fail, so do it only if the task has changed
        try:
            registry.look_up(obj.task)
        except UnknownTask as error:
            messages.warning(request, f"{error} Its jobs will wait for a worker that knows it.")

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        operations.delete(Actor.of_request(request), obj, reason=reason_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        for schedule in queryset:
            self.delete_model(request, schedule)

    @admin.display(description="Next runs")
    def upcoming(self, schedule: Schedule) -> SafeString | str:
        if not schedule.cron:
            return EMPTY  # the page of a new one
        try:
            times = schedule.upcoming(UPCOMING_RUNS)
        except QueueAppError as error:
            return str(error)
        lines = format_html_join("\n", "<div>{}</div>", ((_local_time(at, schedule, "%a "),) for at in times))
        return format_html("{}{}", "if it were not paused:" if schedule.paused else "", lines)

    @admin.display(description="Next")
    def next(self, schedule: Schedule) -> str:
        return _local_time(schedule.next_at, schedule)

    @admin.display(description="Last")
    def last(self, schedule: Schedule) -> str:
        return _local_time(schedule.last_at, schedule)

    @admin.display(description="Last job")
    def last_job(self, schedule: Schedule) -> SafeString | str:
        return link(Job, schedule.last_job_id)

    @admin.display(description="State")
    def state(self, schedule: Schedule) -> str:
        text = "Paused" if schedule.paused else "Active"
        return f"{text}. {schedule.error[:120]}" if schedule.error else text

    @admin.action(description="Pause selected schedules", permissions=["change"])
    def pause_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        self._each(request, queryset.filter(paused=False), operations.pause, "Paused")

    @admin.action(description="Resume selected schedules, from now on", permissions=["change"])
    def resume_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        self._each(request, queryset.filter(paused=True), operations.resume, "Resumed")

    @admin.action(description="Run selected schedules now", permissions=["change"])
    def run_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        results = self._each(request, queryset, operations.run_now, "Enqueued a run of")
        if results:
            links = format_html_join(", ", "{}", ((link(Job, job_id),) for job_id in results[:MAX_JOB_LINKS]))
            messages.info(
                request, format_html("Jobs: {}{}", links, " …" if len(results) > MAX_JOB_LINKS else "")
            )

    def _each(
        self, request: HttpRequest, rows: QuerySet[Schedule], verb: Callable[..., Any], past_tense: str
    ) -> list[Any]:
        """Apply `verb` to each schedule and show the result. A schedule that fails does not stop the others."""
        done, results = [], []
        with show_outages(request):
            for schedule in rows[:ACTION_LIMIT]:
                try:
                    results.append(verb(Actor.of_request(request), schedule, reason=reason_of(request)))
                    done.append(schedule.name)
                except QueueAppError as error:
                    messages.error(request, f"{schedule.name}: {error}")
        if done:
            messages.success(request, f"{past_tense}: {', '.join(done)}.")
        else:
            messages.warning(request, f"{past_tense}: none.")
        return results


def _local_time(moment: datetime | None, schedule: Schedule, day: str = "") -> str:
    """A time in the time zone of the schedule; UTC if that zone is unknown."""
    if moment is None:
        return EMPTY
    try:
        return f"{moment.astimezone(cron.zone_of(schedule.zone)):{day}%Y-%m-%d %H:%M %Z}"
    except QueueAppError:
        return f"{moment:{day}%Y-%m-%d %H:%M UTC}"
