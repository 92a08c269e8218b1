"""The row of a job, and its state as everyone should see it now: by the record, and by what Redis knows before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import DataError

from queue_app import clock
from queue_app.dispatch import connection, finding, workers
from queue_app.domain.states import WAITING, JobState
from queue_app.exceptions import JobDoesNotExist
from queue_app.models import Job
from queue_app.models.sql import write_alias


def get_job(job_id: Any, **filters: Any) -> Job:
    """The row of a job.

    Raises:
        JobDoesNotExist: there is none, or the id is not one.
    """
    try:
        return Job.objects.using(write_alias()).get(pk=UUID(str(job_id)), **filters)
    except (Job.DoesNotExist, ValueError, ValidationError, DataError, OverflowError):
        raise JobDoesNotExist(f"There is no job {str(job_id)[:64]!r}.") from None


def state_now(job: Job) -> JobState:
    """The state of a job as everyone should see it now: a row learns of a running attempt only after a moment, so
    Redis is asked about those that wait. When Redis is away the row's word stands."""
    return states_now([job])[job.pk]


def states_now(jobs: Iterable[Job]) -> dict[UUID, JobState]:
    """`state_now` of many jobs, with two round trips.

    The objects of those found running are brought up to date as well: worker, start of the attempt. Nothing is saved.
    """
    states: dict[UUID, JobState] = {}
    waiting: dict[str, Job] = {}
    by_queue: dict[str, list[str]] = {}
    for job in jobs:
        states[job.pk] = JobState(job.state)
        if job.state in WAITING:
            waiting[str(job.pk)] = job
            by_queue.setdefault(job.queue, []).append(str(job.pk))
    if not waiting:
        return states
    try:
        found = finding.holders_of(connection.client(), by_queue)
    except connection.Unavailable:
        return states
    for job_id, held in found.items():
        job = waiting[job_id]
        states[job.pk] = JobState.RUNNING
        job.worker_id = UUID(workers.owner(held.holder))
        job.last_attempted_at = clock.from_seconds(held.since)
        job.started_at = job.started_at or job.last_attempted_at
    return states
