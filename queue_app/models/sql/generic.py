"""Bulk writes through the ORM alone: SQLite, MySQL, MariaDB, Oracle."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Coalesce

from queue_app import clock
from queue_app.domain import ids
from queue_app.domain.ending import Ending
from queue_app.domain.states import ATTEMPTABLE, FINAL, JobState
from queue_app.models.attempt import Attempt
from queue_app.models.dead_letter import DeadLetter
from queue_app.models.job import Job
from queue_app.models.sql.generic_scans import names_of_waiting as names_of_waiting
from queue_app.models.sql.generic_scans import newest_waiting as newest_waiting
from queue_app.models.sql.generic_scans import oldest_waiting as oldest_waiting
from queue_app.models.sql.generic_scans import read_waiting as read_waiting
from queue_app.models.sql.generic_scans import walk_waiting as walk_waiting
from queue_app.models.sql.rows import Accepted, NewJobs, Start

#: Rows in one statement; SQLite allows 999 parameters where it is old, and the ORM splits further by itself.
ROWS_PER_STATEMENT = 200

_UPDATED = [
    "state",
    "attempt",
    "failures",
    "deaths",
    "started_at",
    "last_attempted_at",
    "finished_at",
    "run_after",
    "result",
    "progress",
    "worker_id",
    "suspect",
]


def insert_jobs(
    connection: BaseDatabaseWrapper, jobs: NewJobs, meanwhile: Callable[[], None] | None = None
) -> None:
    """Write new job rows in the current transaction (or one of their own), then call `meanwhile`."""
    shared = {column: getattr(jobs, column) for column in jobs.columns}
    Job.objects.using(connection.alias).bulk_create(
        [
            Job(id=UUID(job_id), payload=payload, **shared)
            for job_id, payload in zip(jobs.ids, jobs.payloads, strict=True)
        ],
        batch_size=ROWS_PER_STATEMENT,
    )
    if meanwhile is not None:
        meanwhile()


def end_attempts(
    connection: BaseDatabaseWrapper, endings: list[Ending], worker_id: str | None, *, lenient: bool = False
) -> Accepted:
    """Record outcomes, each only if the row expects that attempt; with the attempt rows and dead letters.

    Args:
        worker_id: of the worker that made these attempts.
        lenient: a row of the same attempt, or an open dead letter, that is there already stays as it is.

    Returns:
        The ids whose outcome counted. Commits before it returns, unless in a caller's transaction.
    """
    using = connection.alias
    worker = UUID(worker_id) if worker_id else None
    accepted = Accepted()
    with transaction.atomic(using=using):
        for start in range(0, len(endings), ROWS_PER_STATEMENT):
            part = {UUID(e.id): e for e in endings[start : start + ROWS_PER_STATEMENT]}
            rows = (
                Job.objects.using(using)
                .select_for_update()
                .filter(pk__in=part, state__in=sorted(ATTEMPTABLE))
                .order_by("pk")
            )
            jobs = [
                _apply(job, part[job.pk], worker) for job in rows if job.attempt == part[job.pk].number - 1
            ]
            # The rows are locked and complete, so this "insert" only updates. Its cost for each row is constant; that
            # of bulk_update, with its CASE … WHEN, grows with the group.
            Job.objects.using(using).bulk_create(
                jobs,
                update_conflicts=True,
                unique_fields=None if connection.vendor == "mysql" else ["id"],
                update_fields=_UPDATED,
            )
            counted = [part[job.pk] for job in jobs]
            Attempt.objects.using(using).bulk_create(
                [_attempt(e, worker) for e in counted], ignore_conflicts=lenient
            )
            accepted.update(e.id for e in counted)
            accepted.cancelled |= {str(job.pk) for job in jobs if job.state == JobState.CANCELLED}
            DeadLetter.objects.using(using).bulk_create(
                [_dead_letter(e) for e in counted if e.dead_reason and e.id not in accepted.cancelled],
                ignore_conflicts=lenient,
            )
    return accepted


def _apply(job: Job, e: Ending, worker: UUID | None) -> Job:
    started = clock.from_seconds(e.started_at) if e.started_at is not None else None
    cancelled = job.cancel_requested_at is not None and e.job_state != JobState.SUCCEEDED
    job.state = JobState.CANCELLED if cancelled else e.job_state
    job.attempt = e.number
    job.failures = e.failures
    job.deaths = e.deaths
    job.suspect = e.suspect
    job.started_at = job.started_at or started
    job.last_attempted_at = started or job.last_attempted_at
    job.finished_at = clock.from_seconds(e.finished_at) if job.state in FINAL else None
    if e.run_after is not None and not cancelled:
        job.run_after = clock.from_seconds(e.run_after)
    job.result = e.result
    job.progress = e.progress or job.progress
    job.worker_id = worker
    return job


def _attempt(e: Ending, worker: UUID | None) -> Attempt:
    return Attempt(
        job_id=UUID(e.id),
        number=e.number,
        state=e.attempt_state,
        worker_id=worker,
        started_at=clock.from_seconds(e.started_at) if e.started_at is not None else None,
        finished_at=clock.from_seconds(e.finished_at),
        error_class=e.error_class,
        error=e.error,
        traceback=e.traceback,
    )


def _dead_letter(e: Ending) -> DeadLetter:
    return DeadLetter(
        id=ids.new_id(),
        job_id=UUID(e.id),
        task=e.task,
        queue=e.queue,
        reason=e.dead_reason,
        fingerprint=e.fingerprint,
        attempts=e.number,
        error_class=e.error_class,
        error=e.error,
        created_at=clock.from_seconds(e.finished_at),
    )


def mark_running(connection: BaseDatabaseWrapper, starts: list[Start], worker_id: str) -> None:
    """Set jobs whose attempt is under way to `running`, unless the outcome is recorded already."""
    for start in starts:  # jobs that have run for half a second: few, and at most one for each slot
        values = {
            "state": JobState.RUNNING,
            "worker_id": UUID(worker_id),
            "last_attempted_at": clock.from_seconds(start.started_at),
            "started_at": Coalesce("started_at", clock.from_seconds(start.started_at)),
        }
        if start.progress is not None:
            values["progress"] = start.progress
        Job.objects.using(connection.alias).filter(
            pk=UUID(start.id), attempt=start.number - 1, state__in=sorted(ATTEMPTABLE)
        ).update(**values)
