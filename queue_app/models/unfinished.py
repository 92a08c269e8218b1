"""The unfinished ones of some jobs, which a verb for many is about."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet

from queue_app.domain.states import UNFINISHED, JobState
from queue_app.models import indexes
from queue_app.models.job import Job


def unfinished(jobs: QuerySet[Job], limit: int | None = None) -> list[UUID]:
    """Keys of those of these jobs that are unfinished, oldest first; the history is not read.

    Args:
        limit: at most so many. Among the queued jobs of several queues, those of the first queues by name come first.
    """
    found: list[UUID] = []
    for state in sorted(UNFINISHED):
        order = indexes.QUEUED if state == JobState.QUEUED else indexes.RARE
        rows = order.newest_first(jobs.filter(state=state)).reverse()
        found += rows.values_list("pk", flat=True)[:limit]
    return sorted(found)[:limit]
