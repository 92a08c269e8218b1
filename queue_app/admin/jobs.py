"""Jobs: lists, the page of one with its attempts, cancel and replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import F, QuerySet, Value
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from queue_app.admin.base import (
    RecordAdmin,
    RecordChangeList,
    admin_name,
    selected_pks,
    show_outages,
    show_result,
)
from queue_app.admin.display import (
    EMPTY,
    error_line,
    folded,
    json_block,
    link,
    progress_bar,
    seconds_between,
)
from queue_app.admin.filters import AgeFilter, QueueFilter, TaskFilter
from queue_app.admin.reasons import reason_of
from queue_app.admin.rights import RightsMixin, may, may_see_payload, payload
from queue_app.domain import serialization
from queue_app.domain.rights import Right
from queue_app.domain.states import UNFINISHED, JobState
from queue_app.models import Attempt, DeadLetter, Job, Worker
from queue_app.operations import dead_letters, jobs
from queue_app.operations.actor import Actor
from queue_app.queries.jobs import states_now, waiting_for_task
from queue_app.queries.payload import MASK, MASKED, masked_meta

if TYPE_CHECKING:
    AttemptInlineBase = admin.TabularInline[Attempt, Job]
else:
    AttemptInlineBase = admin.TabularInline

#: Attempts and dead letters that a job's page shows, the latest of them.
MAX_ATTEMPTS_SHOWN = 50

#: Added to the state of a job that waits for a worker that knows its task.
WAITING_FOR_TASK = ", for a worker that knows its task"

TIMES = (
    "enqueued_at",
    "run_after",
    "started_at",
    "last_attempted_at",
    "cancel_requested_at",
    "finished_at",
)
COUNTS = ("attempt", "failures", "max_attempts", "deaths", "suspect")


class LiveChangeList(RecordChangeList):
    """A list of jobs with their current states: Redis knows of attempts that have just begun."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        states, waiting = states_now(rows), waiting_for_task(rows)
        for job in rows:
            job.live_state = states[job.pk]
            job.waits_for_task = job.pk in waiting
        self.result_list = rows


class AttemptInline(RightsMixin, AttemptInlineBase):
    """The attempts of a job that have ended."""

    model = Attempt
    can_delete = False
    extra = 0
    fields = ("number", "state", "started_at", "run_time", "worker", "error_detail")
    ordering = ("number",)
    readonly_fields = fields
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        rows = super().get_queryset(request).filter(number__gt=F("job__attempt") - MAX_ATTEMPTS_SHOWN)
        return rows.annotate(payload_visible=Value(may(request, Right.VIEW_PAYLOAD)))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Right.VIEW_JOB)  # attempts are part of the page of the job

    @admin.display(description="Ran for")
    def run_time(self, attempt: Attempt) -> str:
        return seconds_between(attempt.started_at, attempt.finished_at)

    @admin.display(description="Worker")
    def worker(self, attempt: Attempt) -> str:
        return link(Worker, attempt.worker_id)

    @admin.display(description="Error")
    def error_detail(self, attempt: Attempt) -> str:
        line = error_line(attempt)
        if not attempt.traceback:
            return line or EMPTY
        if attempt.payload_visible:  # type: ignore[attr-defined]
            return folded(line, attempt.traceback)
        return format_html('{} <span title="{}">{}</span>', line, MASKED, MASK)


@admin.register(Job)
class JobAdmin(RecordAdmin):
    """One call of a task. Rows are read-only; the actions are verbs of `operations`."""

    actions = ("cancel_jobs", "replay_jobs")
    change_form_template = "admin/queue_app/job/change_form.html"
    heavy = payload_fields = ("payload", "result", "meta")
    inlines = (AttemptInline,)
    list_display = (
        "id",
        "task",
        "queue",
        "priority",
        "state_now",
        "progress_bar",
        "attempt",
        "enqueued_at",
        "finished_at",
    )
    list_filter = ("state", QueueFilter, TaskFilter, AgeFilter)
    search_help_text = (
        "A job's id, or the beginning of it (8 digits or more), or the beginning of a task's name."
    )
    text_field = "task"
    fieldsets = (
        (None, {"fields": ("id", "task", "queue", "priority", "state_now", "progress_bar")}),
        ("Arguments and result", {"fields": ("arguments", "result_json", "meta_json")}),
        ("Times", {"fields": (*TIMES, "wait_time")}),
        ("Attempts", {"fields": (*COUNTS, "timeout", "worker", "dead_letter_links", "backend")}),
    )
    readonly_fields = flatten_fieldsets(fieldsets)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LiveChangeList]:
        return LiveChangeList

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        extra = {
            "may_cancel": self.has_cancel_permission(request),
            "may_replay": self.has_replay_permission(request),
            "unfinished": UNFINISHED,
            "failed": JobState.FAILED,
        }
        return super().change_view(request, object_id, form_url, (extra_context or {}) | extra)

    @admin.display(description="State")
    def state_now(self, job: Job) -> str:
        known: JobState | None = getattr(job, "live_state", None)  # from the list
        waits: bool = getattr(job, "waits_for_task", False)
        if known is None:
            known, waits = states_now([job])[job.pk], bool(waiting_for_task([job]))
        return f"{known.label}{WAITING_FOR_TASK if waits else ''}"

    @admin.display(description="Progress")
    def progress_bar(self, job: Job) -> str:
        return progress_bar(job.progress)

    @admin.display(description="Arguments")
    def arguments(self, job: Job) -> str:
        return payload(job, lambda: json_block(job.payload))

    @admin.display(description="Result")
    def result_json(self, job: Job) -> str:
        return payload(job, lambda: json_block(job.result))

    @admin.display(description="Meta")
    def meta_json(self, job: Job) -> str:
        """The meta of the job, such as who submitted it."""
        if may_see_payload(job) or job.meta is None:
            return json_block(job.meta)
        return json_block(serialization.dump(masked_meta(serialization.load(job.meta))))

    @admin.display(description="Waited before its first attempt")
    def wait_time(self, job: Job) -> str:
        return seconds_between(job.due_at, job.started_at)

    @admin.display(description="Worker")
    def worker(self, job: Job) -> str:
        return link(Worker, job.worker_id)

    @admin.display(description="Dead letters")
    def dead_letter_links(self, job: Job) -> SafeString | str:
        if not getattr(job, "letters_visible", False):
            return EMPTY
        letters = job.dead_letters.order_by("-pk")[:MAX_ATTEMPTS_SHOWN]
        lines = ((link(DeadLetter, letter.pk, _summary(letter)),) for letter in letters)
        return format_html_join("\n", "<div>{}</div>", lines) or EMPTY

    @admin.action(description="Cancel selected jobs", permissions=["cancel"])
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse | None:
        with show_outages(request):
            pks = selected_pks(request, queryset)
            answer = jobs.cancel(Actor.of_request(request), pks, reason=reason_of(request))
            show_result(
                request, len(answer.done), "cancelled", answer.refused.values(), len(answer.requested)
            )
        return self._back(request)

    @admin.action(description="Replay selected jobs from the dead letters", permissions=["replay"])
    def replay_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse | None:
        with show_outages(request):
            pks = selected_pks(request, queryset)
            answer = dead_letters.replay_jobs(Actor.of_request(request), pks, reason=reason_of(request))
            show_result(request, len(answer.done), "replayed", answer.refused.values())
        return self._back(request)

    def _back(self, request: HttpRequest) -> HttpResponse | None:
        """Redirect to the page of the job if its button was used; None: stay on the list."""
        job_id = request.POST.get("_selected_action")
        if "_from_page" not in request.POST or not job_id:
            return None
        return HttpResponseRedirect(reverse(admin_name(Job, "change"), args=[job_id]))


def _summary(letter: DeadLetter) -> str:
    replayed = f", replayed {letter.replayed_at:%Y-%m-%d %H:%M:%S}" if letter.replayed_at else ""
    return f"{letter.get_reason_display()}, {letter.created_at:%Y-%m-%d %H:%M:%S}{replayed}"
