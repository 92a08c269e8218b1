"""Prune: delete finished jobs whose retention is over, oldest first, a batch at a time.

A job's attempts and dead letters are deleted with it. Workers and history are independent: no row points from one to
the other. Audit events have a retention of their own.

Jobs with a long retention lie among jobs with a short one. So the record is walked through by id, in parts of bounded
size: the cost of a part does not grow with what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Case, FloatField, Min, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThan

from queue_app import clock, conf
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.lifecycle.callbacks import Check, no_check
from queue_app.models import Attempt, AuditEvent, DeadLetter, Job, Queue, Worker
from queue_app.models.functions import Epoch
from queue_app.models.sql import write_alias

#: The final states that follow each of the two retentions.
KEPT_AS_SUCCEEDED = (JobState.SUCCEEDED, JobState.CANCELLED)
KEPT_AS_FAILED = (JobState.FAILED, JobState.EXPIRED)

#: Most rows deleted in one transaction, so that it stays short.
ROWS_PER_TRANSACTION = 5_000
#: Rows looked at in one part of the walk.
ROWS_PER_STEP = 20_000
#: A retention that never ends: a hundred thousand years, in seconds.
FOR_EVER = 3e12


def prune_jobs_part(
    after: UUID | None = None, *, limit: int = ROWS_PER_TRANSACTION, check: Check = no_check
) -> tuple[int, UUID | None]:
    """Do a part of the walk through the record.

    Args:
        after: go on behind this id; None: from the oldest job on.
        limit: most jobs deleted.
        check: called before each batch of writes.

    Returns:
        How many jobs were deleted, and the id to go on behind; None at the end.
    """
    expired, shortest = _past_retention()
    if shortest is None:
        return 0, None  # everything is kept for ever
    using = write_alias()
    # A job ends after it was made. So a job made within the shortest retention cannot be past it.
    rows = Job.objects.using(using).filter(pk__lt=ids.floor(clock.seconds() - shortest)).order_by("pk")
    if after is not None:
        rows = rows.filter(pk__gt=after)
    last = rows.values_list("pk", flat=True)[ROWS_PER_STEP - 1 : ROWS_PER_STEP].first()
    if last is not None:
        rows = rows.filter(pk__lte=last)
    found = list(rows.filter(expired).values_list("pk", flat=True)[:limit])
    if len(found) == limit:
        last = found[-1]
    return (_delete(found, expired, check) if found else 0), last


def prune_workers(*, limit: int = ROWS_PER_TRANSACTION, check: Check = no_check) -> int:
    """Delete the rows of workers that stopped longer ago than failed jobs are kept. No row points at them.

    Returns:
        How many were deleted.
    """
    keep = conf.get().KEEP_FAILED
    if keep is None:
        return 0
    rows = Worker.objects.using(write_alias())
    return _delete_oldest(
        rows.filter(stopped_at__lt=clock.from_seconds(clock.seconds() - keep)), limit, check
    )


def prune_audit_events(*, limit: int = ROWS_PER_TRANSACTION, check: Check = no_check) -> int:
    """Delete the audit events whose retention is over, oldest first.

    Returns:
        How many were deleted.
    """
    keep = conf.get().AUDIT_RETENTION
    if keep is None:
        return 0
    rows = AuditEvent.objects.using(write_alias())
    return _delete_oldest(rows.filter(pk__lt=ids.floor(max(0.0, clock.seconds() - keep))), limit, check)


def _delete_oldest(rows: QuerySet[Any], limit: int, check: Check) -> int:
    """Delete rows at which no other row points, without signals. Returns how many."""
    found = list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
    if found:
        check()
        rows.model._default_manager.using(rows.db).filter(pk__in=found)._raw_delete(rows.db)
    return len(found)


def _past_retention() -> tuple[Q, float | None]:
    """What selects jobs whose retention is over. The retention of a task counts before that of a queue, and that before
    the settings.

    The condition costs one look-up in the table of queues for each row, in however many queues have their own
    retention.

    Returns:
        The condition, and the shortest retention of any job in seconds; None if everything is kept for ever.
    """
    settings = conf.get()
    now = clock.seconds()
    queues = Queue.objects.using(write_alias())
    least = queues.aggregate(succeeded=Min("keep_succeeded"), failed=Min("keep_failed"))
    shortest = _shortest(least.values())
    if shortest is None:
        return Q(pk__in=[]), None
    condition = Q()
    for word, states, default in (
        ("succeeded", KEPT_AS_SUCCEEDED, settings.KEEP_SUCCEEDED),
        ("failed", KEPT_AS_FAILED, settings.KEEP_FAILED),
    ):
        keep: Any = _seconds(default)
        if least[word] is not None:
            own = queues.filter(name=OuterRef("queue")).order_by().values(f"keep_{word}")
            keep = Coalesce(Subquery(own), keep)
        of_task = {task: its[word] for task, its in (settings.KEEP_TASKS or {}).items() if word in its}
        if of_task:
            cases = [When(task=task, then=_seconds(seconds)) for task, seconds in of_task.items()]
            keep = Case(*cases, default=keep)
        is_over = LessThan(Epoch("finished_at") + keep, Value(now, output_field=FloatField()))
        condition |= Q(state__in=states) & Q(is_over)
    # The first condition is cheap, and leaves out jobs that have not finished.
    return Q(finished_at__lt=clock.from_seconds(now - shortest)) & condition, shortest


def _seconds(keep: float | None) -> Value:
    return Value(FOR_EVER if keep is None else keep, output_field=FloatField())


def _shortest(of_queues: Iterable[float | None]) -> float | None:
    """The shortest retention of any job in seconds; None if everything is kept for ever."""
    settings = conf.get()
    times = [settings.KEEP_SUCCEEDED, settings.KEEP_FAILED, *of_queues]
    for of_task in (settings.KEEP_TASKS or {}).values():
        times += of_task.values()
    return min((seconds for seconds in times if seconds is not None), default=None)


def _delete(oldest: list[UUID], expired: Q, check: Check) -> int:
    using = write_alias()
    check()
    with transaction.atomic(using=using):
        # Locked, so that a replay and the pruning of a dead job cannot both succeed. Letters first, like a replay.
        list(
            DeadLetter.objects.using(using)
            .select_for_update()
            .filter(job_id__in=oldest)
            .order_by("pk")
            .values_list("pk", flat=True)
        )
        rows = Job.objects.using(using).filter(expired, pk__in=oldest)
        found: list[UUID] = list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
        if not found:
            return 0
        Attempt.objects.using(using).filter(job_id__in=found)._raw_delete(using)
        DeadLetter.objects.using(using).filter(job_id__in=found)._raw_delete(using)
        Job.objects.using(using).filter(pk__in=found)._raw_delete(using)
    return len(found)
