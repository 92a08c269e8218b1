"""A job: one call of a task."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.expressions import RawSQL

from queue_app import clock
from queue_app.domain import ids, serialization
from queue_app.domain.envelope import LANE
from queue_app.domain.states import FINAL, TIMED, UNFINISHED, JobState


def _in(states: Iterable[JobState]) -> RawSQL:
    """The condition that a job is in one of these states, in the words of the partial indexes: SQLite does not see that
    a list of parameters is the same."""
    words = ", ".join(repr(state.value) for state in sorted(states))
    return RawSQL(f"queue_app_job.state IN ({words})", (), output_field=models.BooleanField())


class JobQuerySet(models.QuerySet["Job"]):
    """The words of the lifecycle as filters."""

    def waiting_now(self) -> JobQuerySet:
        """May start now, or is running: what the dispatch has to know at once."""
        return self.filter(_in(UNFINISHED - TIMED))

    def timed(self) -> JobQuerySet:
        """Waits for its `run_after`."""
        return self.filter(_in(TIMED))

    def unfinished(self) -> JobQuerySet:
        return self.filter(state__in=sorted(UNFINISHED))

    def cancelling(self) -> JobQuerySet:
        """Cancelled while it ran, and not ended yet: nothing of it may start again."""
        return self.filter(_in(UNFINISHED), cancel_requested_at__isnull=False)

    def finished(self) -> JobQuerySet:
        return self.filter(state__in=sorted(FINAL))


class Job(models.Model):
    """One call of a task. Written by `lifecycle` alone."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    task = models.CharField(max_length=255, help_text="Dotted path of the task.")
    queue = models.CharField(max_length=64, default="default")
    priority = models.SmallIntegerField(default=0, help_text="-100…100; higher runs first.")
    state = models.CharField(max_length=12, choices=JobState, default=JobState.QUEUED)
    #: JSON text `[[args…], {kwargs…}]`: text, not jsonb, so that the task gets exactly what was passed
    #: (jsonb reorders keys and turns 1e22 into an int).
    payload = models.TextField(default=serialization.NO_ARGUMENTS)
    result = models.TextField(null=True, blank=True, help_text="JSON text of what the task returned.")
    progress = models.TextField(null=True, blank=True, help_text="JSON text [done, total, note].")
    backend = models.CharField(
        max_length=64,
        default="",
        blank=True,
        help_text="Alias in TASKS that it came through; empty: queue_app.task.",
    )
    run_after = models.DateTimeField(null=True, blank=True, help_text="Not to start before this time.")
    max_attempts = models.SmallIntegerField(default=1, help_text="Attempts that may fail in all.")
    timeout = models.FloatField(null=True, blank=True, help_text="Seconds; null: the task's own limit.")
    #: Number of the last attempt that has ended; an outcome counts only if it is of the next one (the fence).
    attempt = models.IntegerField(default=0)
    failures = models.SmallIntegerField(default=0, help_text="Attempts that count against max_attempts.")
    deaths = models.SmallIntegerField(default=0, help_text="Times that it alone ran when its process died.")
    #: The worker of the attempt under way, once the row says `running`; afterwards that of the last one.
    worker_id = models.UUIDField(null=True, blank=True)
    enqueued_at = models.DateTimeField(default=clock.now)
    started_at = models.DateTimeField(null=True, blank=True, help_text="Start of the first attempt.")
    last_attempted_at = models.DateTimeField(null=True, blank=True, help_text="Start of the latest attempt.")
    finished_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Somebody cancelled it while it ran: it succeeds if it still does, and else ends cancelled.",
    )

    suspect = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Its process died, and it may have been the cause: it runs alone in a process until it survives.",
    )

    #: The database has a default too: processes of an older release insert rows without it.
    lane = models.CharField(
        max_length=128,
        default=LANE,
        db_default=LANE,
        help_text="Jobs of one lane share its limit; '-': that of none.",
    )
    meta = models.TextField(
        null=True,
        blank=True,
        help_text="JSON text: what the job carries about itself, such as who asked for it.",
    )

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("view_payload", "Can see arguments, results and tracebacks of jobs"),
            ("submit_job", "Can submit jobs"),
            ("operate_job", "Can cancel jobs"),
        ]
        indexes = [
            # Finished rows leave both, so their size is that of the backlog, not of the history.
            models.Index(
                fields=["queue", "id"],
                name="queue_app_job_waiting",
                condition=Q(state__in=sorted(UNFINISHED - TIMED)),
            ),
            models.Index(
                fields=["run_after"], name="queue_app_job_timed", condition=Q(state__in=sorted(TIMED))
            ),
            # As good as empty: what was asked to end and has not yet.
            models.Index(
                fields=["id"],
                name="queue_app_job_cancelling",
                condition=Q(cancel_requested_at__isnull=False, state__in=sorted(UNFINISHED)),
            ),
            # Each state but the two that a plain job goes through, in the order of ids.
            models.Index(
                fields=["state", "id"],
                name="queue_app_job_rare",
                condition=~Q(state__in=[JobState.QUEUED, JobState.SUCCEEDED]),
            ),
            # On PostgreSQL migration 0004 adds queue_app_job_search (BRIN): see models/summaries.py.
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=sorted(JobState.values)), name="queue_app_job_state"
            ),
            models.CheckConstraint(
                condition=Q(state__in=sorted(FINAL), finished_at__isnull=False)
                | Q(state__in=sorted(UNFINISHED), finished_at__isnull=True),
                name="queue_app_job_finished_at",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=sorted(TIMED)) | Q(run_after__isnull=False),
                name="queue_app_job_run_after",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=[JobState.RUNNING, JobState.SUCCEEDED]) | Q(started_at__isnull=False),
                name="queue_app_job_started_at",
            ),
            models.CheckConstraint(
                condition=Q(priority__gte=-100, priority__lte=100), name="queue_app_job_priority"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.id}"

    @property
    def args(self) -> list[Any]:
        """Positional arguments."""
        return serialization.load(self.payload)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return serialization.load(self.payload)[1]

    @property
    def return_value(self) -> Any:
        """What the task returned; None while it has not."""
        return None if self.result is None else serialization.load(self.result)

    @property
    def is_finished(self) -> bool:
        return self.state in FINAL

    @property
    def due_at(self) -> datetime:
        """From when it may start."""
        return self.run_after or self.enqueued_at
