"""Prune: finished jobs leave the record when their time is over, oldest first, a batch at a time.

A job's attempts and dead letters go with it. Workers are not touched, nor does pruning a worker touch history.
"""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from queue_app import clock, conf, ids
from queue_app.lifecycle.release import Check, unchecked
from queue_app.models import Attempt, DeadLetter, Job, Queue
from queue_app.models.bulk import write_alias
from queue_app.states import JobState

#: Which of the two retentions a final state follows.
KEPT_AS_SUCCEEDED = (JobState.SUCCEEDED, JobState.CANCELLED)
KEPT_AS_FAILED = (JobState.FAILED, JobState.EXPIRED)


def prune(*, limit: int = 5_000, check: Check = unchecked) -> int:
    """Delete jobs that finished longer ago than their queue's, or else the settings', retention.

    Args:
        limit: most jobs deleted in one call, so that no transaction grows long.
        check: asked before each batch of writes.

    Returns:
        How many jobs were deleted.
    """
    settings = conf.get()
    own = {
        name: (succeeded, failed)
        for name, succeeded, failed in Queue.objects.using(write_alias()).values_list(
            "name", "keep_succeeded", "keep_failed"
        )
    }
    count = 0
    for states, default, place in (
        (KEPT_AS_SUCCEEDED, settings.KEEP_SUCCEEDED, 0),
        (KEPT_AS_FAILED, settings.KEEP_FAILED, 1),
    ):
        special = {name: keep[place] for name, keep in own.items() if keep[place] is not None}
        for name, seconds in special.items():
            count += _prune_some(states, seconds, limit - count, check, only=name)
        count += _prune_some(states, default, limit - count, check, but=sorted(special))
    return count


def _prune_some(
    states: tuple[JobState, ...],
    seconds: float | None,
    limit: int,
    check: Check,
    *,
    only: str | None = None,
    but: list[str] | None = None,
) -> int:
    if seconds is None or limit <= 0:
        return 0
    using = write_alias()
    before = clock.seconds() - seconds
    # A job is older than its end: the bound on the id lets the primary key find the oldest ones.
    rows = Job.objects.using(using).filter(
        pk__lt=ids.floor(before), state__in=states, finished_at__lt=clock.from_seconds(before)
    )
    if only is not None:
        rows = rows.filter(queue=only)
    if but:
        rows = rows.exclude(queue__in=but)
    oldest = list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
    if not oldest:
        return 0
    check()
    with transaction.atomic(using=using):
        # Locked, so that a replay and the pruning of a dead job cannot both win; letters first, as a replay does it.
        list(
            DeadLetter.objects.using(using)
            .select_for_update()
            .filter(job_id__in=oldest)
            .order_by("pk")
            .values_list("pk", flat=True)
        )
        found: list[UUID] = list(
            rows.filter(pk__in=oldest).select_for_update().order_by("pk").values_list("pk", flat=True)
        )
        if not found:
            return 0
        Attempt.objects.using(using).filter(job_id__in=found)._raw_delete(using)
        DeadLetter.objects.using(using).filter(job_id__in=found)._raw_delete(using)
        Job.objects.using(using).filter(pk__in=found)._raw_delete(using)
    return len(found)
