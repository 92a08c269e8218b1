"""Cancelling: waiting jobs end at once; jobs that a child holds are asked to end, and are never started again.

`cancel_requested_at` marks a job that is to end. When its attempt ends, the guarded write of outcomes makes the job
`cancelled` unless it succeeded (models/sql). Code that pushes jobs leaves marked ones out. The duty `cancel` ends what
remains: jobs that were given back unstarted, and requests that were lost with Redis's data.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from uuid import UUID

import redis
from django.db import transaction

from queue_app import clock
from queue_app.dispatch import connection, finding, queues, workers
from queue_app.domain.delivery import Delivery
from queue_app.domain.states import ATTEMPTABLE, WAITING, JobState
from queue_app.lifecycle.callbacks import Check, no_check
from queue_app.lifecycle.entries import ids_by_queue
from queue_app.lifecycle.push import PUSH_TIMEOUT
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.models import Job, Worker
from queue_app.models.sql import write_alias

logger = logging.getLogger(__name__)

#: Rows that the duty locks in one transaction.
JOBS_PER_TRANSACTION = 500


def cancel_or_request(jobs: Iterable[Job]) -> tuple[list[Job], list[Job]]:
    """Cancel unfinished jobs. The caller has locked their rows in its own transaction.

    Jobs that no child has claimed are removed from Redis first and end now, so that a claim and a cancellation cannot
    both succeed. The others are marked; their workers are told when the transaction has committed. During a rebuild
    every job is only marked: it is not known which jobs run.

    Returns:
        The jobs that ended, and the jobs that were asked to end.

    Raises:
        Unavailable (see dispatch.connection): it is not known which jobs have been claimed.
    """
    using = write_alias()
    waiting: dict[str, list[Job]] = defaultdict(list)
    ended: list[Job] = []
    asked: list[Job] = []
    for job in jobs:
        if job.state in WAITING:
            waiting[job.queue].append(job)
        else:
            asked.append(job)
    for queue, part in waiting.items():
        found = [str(job.pk) for job in part]
        try:
            held = set(finding.withdraw(connection.client(), queue, found))
        except connection.DataLost:
            # It is not known what runs. If no worker lives, nothing runs; tombstones keep these jobs from starting.
            if Worker.objects.using(using).living().exists():
                held = set(found)
            else:
                finding.mark_cancelled(connection.client(), queue, found)
                held = set()
        for job in part:
            (asked if str(job.pk) in held else ended).append(job)
    rows, now = Job.objects.using(using), clock.now()
    if ended:
        rows.filter(pk__in=[job.pk for job in ended]).update(state=JobState.CANCELLED, finished_at=now)
    if asked:
        rows.filter(pk__in=[job.pk for job in asked], cancel_requested_at=None).update(
            cancel_requested_at=now
        )
        by_queue = ids_by_queue((job.pk, job.queue) for job in asked)
        transaction.on_commit(partial(_interrupt, by_queue), using=using)
    return ended, asked


def _interrupt(by_queue: dict[str, list[str]]) -> None:
    """After the commit, mark jobs in Redis, so that they are not queued again, and tell their workers to interrupt
    them. If Redis is away, the duty `cancel` does it later.
    """
    by_worker: dict[str, list[str]] = defaultdict(list)
    try:
        client = connection.client(PUSH_TIMEOUT)
        for queue, ids in by_queue.items():
            for job_id, held in finding.mark_cancelled(client, queue, ids).items():
                by_worker[workers.owner(held.holder)].append(job_id)
        for worker_id, ids in by_worker.items():
            workers.interrupt(client, worker_id, ids)
    except connection.Unavailable as error:
        breaker.failed(error)


def retry_requests(*, limit: int = JOBS_PER_TRANSACTION, check: Check = no_check) -> int:
    """Repeat the requests to jobs that are to end and have not, and end those that no child holds any more.

    Args:
        limit: rows in one batch.
        check: called before each batch.

    Returns:
        How many have ended.

    Raises:
        Unavailable (see dispatch.connection): Redis cannot be reached.
    """
    count, position = retry_requests_part(limit=limit, check=check)
    while position is not None:
        ended, position = retry_requests_part(position, limit=limit, check=check)
        count += ended
    return count


def retry_requests_part(
    after: UUID | None = None, *, limit: int = JOBS_PER_TRANSACTION, check: Check = no_check
) -> tuple[int, UUID | None]:
    """One batch of `retry_requests`.

    Args:
        after: go on behind this id, which skips jobs that workers still hold; None: from the oldest job on.

    Returns:
        How many have ended, and the id to go on behind; None at the end.
    """
    using = write_alias()
    asked = Job.objects.using(using).cancelling().order_by("id")
    rest = asked if after is None else asked.filter(pk__gt=after)
    found = list(rest.values_list("pk", flat=True)[:limit])
    if not found:
        return 0, None
    check()
    with transaction.atomic(using=using):
        rows = asked.filter(pk__in=found).select_for_update().only("state", "queue")
        ended, _ = cancel_or_request(rows)
    return len(ended), found[-1] if len(found) == limit else None


def marked_cancelled(client: redis.Redis, deliveries: Iterable[Delivery]) -> list[Delivery]:
    """The deliveries that may not begin because Redis has their jobs marked as cancelled. The record decides whether
    that is still true (`end_unstarted`).

    Args:
        deliveries: of one child; none has begun.

    Raises:
        Unavailable (see dispatch.connection): it is not known.
    """
    found = list(deliveries)
    by_queue = ids_by_queue((delivery.id, delivery.queue) for delivery in found)
    marked = {
        job_id for queue, ids in by_queue.items() for job_id in finding.marked_cancelled(client, queue, ids)
    }
    return [delivery for delivery in found if delivery.id in marked]


def let_go(client: redis.Redis, holder: str, ended: Iterable[Delivery]) -> None:
    """Tell Redis that a child no longer holds these deliveries.

    Raises:
        Unavailable (see dispatch.connection): it may have been told, or not.
    """
    by_queue = ids_by_queue((delivery.id, delivery.queue) for delivery in ended)
    for queue, ids in by_queue.items():
        queues.settle(client, queue, holder, ids)


def end_unstarted(numbers: dict[str, int]) -> set[str]:
    """End jobs that are to end and whose attempt has not begun. Afterwards their holder must let go of them.

    Args:
        numbers: id → number of the attempt that did not begin. If the record expects another number, another delivery
            has the job, and it is left alone.

    Returns:
        The ids of the jobs that are cancelled, now or since before.
    """
    using = write_alias()
    with transaction.atomic(using=using):
        rows = Job.objects.using(using).select_for_update().filter(pk__in=list(numbers)).order_by("pk")
        found = list(rows.only("state", "attempt", "cancel_requested_at"))
        ended = [
            job.pk
            for job in found
            if job.cancel_requested_at is not None
            and job.state in ATTEMPTABLE
            and job.attempt + 1 == numbers[str(job.pk)]
        ]
        Job.objects.using(using).filter(pk__in=ended).update(
            state=JobState.CANCELLED, finished_at=clock.now()
        )
    if ended:
        logger.info("%d claimed jobs were cancelled before they began.", len(ended))
    return {str(pk) for pk in ended} | {str(job.pk) for job in found if job.state == JobState.CANCELLED}
