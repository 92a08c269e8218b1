"""The current state of jobs: from their rows, and from what Redis knows that the rows do not show yet."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from queue_app.dispatch import connection, set_aside
from queue_app.domain.states import WAITING
from queue_app.lifecycle.state_now import get_job, states_now
from queue_app.models import Job

__all__ = ["get_job", "states_now", "waiting_for_task"]


def waiting_for_task(jobs: Iterable[Job]) -> set[UUID]:
    """The ids of the jobs that wait for a worker that knows their task.

    Every worker that could have run them lacked the task. Empty while Redis is away, because only Redis knows.
    """
    wanted: dict[str, dict[str, str]] = {}
    for job in jobs:
        if job.state in WAITING:
            wanted.setdefault(job.queue, {})[str(job.pk)] = set_aside.requirement_of(job.task, job.backend)
    if not wanted:
        return set()
    try:
        return {UUID(job_id) for job_id in set_aside.waiting_for_requirement(connection.client(), wanted)}
    except connection.Unavailable:
        return set()
