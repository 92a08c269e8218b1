"""Reads of waiting rows through the ORM alone: those of all queues at once; and what Redis is to carry of some."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Window
from django.db.models.functions import RowNumber

from queue_app.domain.envelope import COLUMNS, head_of, of_columns
from queue_app.domain.states import DISPATCHED, JobState
from queue_app.models.job import Job
from queue_app.models.sql.rows import WaitingJob


def names_of_waiting(connection: BaseDatabaseWrapper, after: str, limit: int) -> list[str]:
    """The queues behind `after` that have waiting rows, sorted; at most `limit`."""
    waiting = Job.objects.using(connection.alias).waiting_now().filter(queue__gt=after)
    return list(waiting.order_by("queue").values_list("queue", flat=True).distinct()[:limit])


def newest_waiting(
    connection: BaseDatabaseWrapper, after: str, since: UUID, until: UUID, each: int, queues: int
) -> list[tuple[str, list[str]]]:
    """The queues behind `after` that have waiting rows, sorted, and the ids of the newest of those that say `queued`:
    see postgresql_scans."""
    names = names_of_waiting(connection, after, queues)
    if not names:
        return []
    waiting = Job.objects.using(connection.alias).waiting_now().filter(queue__gt=after)
    rows = waiting.filter(queue__lte=names[-1], state=JobState.QUEUED, id__gte=since, id__lt=until)
    place = Window(RowNumber(), partition_by="queue", order_by=F("id").desc())
    found: dict[str, list[str]] = {name: [] for name in names}
    newest = rows.annotate(place=place).filter(place__lte=each).order_by("queue", "-id")
    for queue, pk in newest.values_list("queue", "pk"):
        if queue in found:  # else it has come in between
            found[queue].append(str(pk))
    return list(found.items())


def walk_waiting(
    connection: BaseDatabaseWrapper, after: tuple[str, UUID], until: UUID, limit: int
) -> list[tuple[str, str]]:
    """Rows that say `queued`, by queue and id: (id as text, queue). See postgresql_scans."""
    queue, last = after
    waiting = Job.objects.using(connection.alias).waiting_now().filter(state=JobState.QUEUED, id__lt=until)
    rows = waiting.filter(queue=queue, id__gt=last).order_by("id")
    found = list(rows.values_list("pk", "queue")[:limit])
    if len(found) < limit:  # two questions, as not every database finds a pair in an index
        rest = waiting.filter(queue__gt=queue).order_by("queue", "id")
        found += rest.values_list("pk", "queue")[: limit - len(found)]
    return [(str(pk), name) for pk, name in found]


def oldest_waiting(connection: BaseDatabaseWrapper, queues: list[str], first: int) -> dict[str, float]:
    """Since when the job has waited that has waited longest among the `first` waiting rows of each queue, in epoch
    seconds."""
    found = {}
    for queue in queues:  # a few hundred at most, and a look-up each
        waiting = Job.objects.using(connection.alias).waiting_now().filter(queue=queue, state=JobState.QUEUED)
        rows = waiting.order_by("id").values_list("enqueued_at", "run_after")[:first]
        since = [max(enqueued, run_after or enqueued).timestamp() for enqueued, run_after in rows]
        if since:
            found[queue] = min(since)
    return found


def read_waiting(connection: BaseDatabaseWrapper, job_ids: list[str], limit: int) -> list[WaitingJob]:
    """What Redis is to carry of those of these jobs that wait, or wait for their next attempt. Left out are rows that
    another transaction has locked, as it may be cancelling them.

    Args:
        limit: longest payload that is read, in characters.
    """
    rows = Job.objects.using(connection.alias).filter(pk__in=[UUID(job_id) for job_id in job_ids])
    rows = rows.filter(state__in=sorted(DISPATCHED), cancel_requested_at=None)
    with transaction.atomic(using=connection.alias):
        # SQLite has no locks of rows. With IMMEDIATE transactions, as the docs ask for, this one waits for the others.
        rows = rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
        return [_waiting(limit, *values) for values in rows.values_list("pk", "payload", *COLUMNS)]


def _waiting(limit: int, pk: UUID, payload: str, *columns: Any) -> WaitingJob:
    said = of_columns(columns)
    return WaitingJob(
        str(pk), said.run_after or 0.0, head_of(said), payload if len(payload) <= limit else None
    )
