"""Orphans: rows that say `running` although no child holds the job, as its worker and Redis's data were both lost.

After a failover, a worker may reach the new Redis later than others. Its row in the record is fresh meanwhile, and its
jobs are not orphans.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from uuid import UUID

import redis

from queue_app import clock, conf
from queue_app.dispatch import epochs, keys
from queue_app.domain.causes import Cause
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome, lost
from queue_app.domain.states import JobState
from queue_app.lifecycle import release, settle
from queue_app.lifecycle.callbacks import Check, no_check
from queue_app.lifecycle.entries import entry_of_row
from queue_app.lifecycle.recovery import liveness
from queue_app.models import Job
from queue_app.models.sql import write_alias


def recover_orphaned(client: redis.Redis, *, limit: int = 5_000, check: Check = no_check) -> int:
    """Record the attempts of orphans as lost and deliver the jobs again, without blame.

    Args:
        limit: rows in one part. All rows are looked at; most of them are held by a child and stay.
        check: called before each batch of writes.

    Returns:
        How many were delivered again.
    """
    count, position = recover_orphaned_part(client, limit=limit, check=check)
    while position is not None:
        recovered, position = recover_orphaned_part(client, position, limit=limit, check=check)
        count += recovered
    return count


def recover_orphaned_part(
    client: redis.Redis, after: UUID | None = None, *, limit: int = 5_000, check: Check = no_check
) -> tuple[int, UUID | None]:
    """A part of `recover_orphaned`.

    Args:
        after: go on behind this id; None: from the oldest on.
        limit: most rows looked at.
        check: called before each batch of writes.

    Returns:
        How many were delivered again, and the id to go on behind; None at the end.
    """
    since = clock.now() - timedelta(seconds=2 * conf.get().LEASE)
    rows = Job.objects.using(write_alias()).filter(state=JobState.RUNNING, last_attempted_at__lt=since)
    if after is not None:
        rows = rows.filter(id__gt=after)
    part = list(rows.order_by("id").values_list("pk", "queue", "worker_id")[:limit])
    # Jobs that are neither held nor given back. Their rows are read after this, as they may have changed meanwhile.
    unknown = release.unknown(client, [(pk, queue) for pk, queue, _ in part])
    if unknown:
        unknown = _leave_out_unannounced(client, unknown, {str(pk): worker for pk, _, worker in part})
    count = 0
    for begin in range(0, len(unknown), release.JOBS_PER_PUSH):
        orphans = [UUID(job_id) for job_id, _ in unknown[begin : begin + release.JOBS_PER_PUSH]]
        count += _record_lost(client, list(rows.filter(pk__in=orphans).order_by("id")), check)
    return count, part[-1][0] if len(part) == limit else None


def _leave_out_unannounced(
    client: redis.Redis, unknown: list[tuple[str, str]], owners: dict[str, UUID | None]
) -> list[tuple[str, str]]:
    """Leave out the jobs of living workers that have not announced yet, in the present epochs, what they run."""
    names = _names(client)
    announced = {shard: epochs.announced(client, shard, name) for shard, name in names.items()}
    # Redis is asked again: workers that announced since the first time hold their jobs by now.
    unknown = release.unknown(client, unknown)
    if _names(client) != names:
        return []
    asked = {str(owner) for job_id, _ in unknown if (owner := owners[job_id]) is not None}
    living = liveness.with_fresh_rows(asked, conf.get().LEASE)
    return [
        (job_id, queue)
        for job_id, queue in unknown
        if str(owners[job_id]) not in living - announced[keys.shard_of(queue)]
    ]


def _names(client: redis.Redis) -> dict[str, str]:
    return {shard: epoch.name for shard, epoch in epochs.read(client).items()}


def _record_lost(client: redis.Redis, jobs: list[Job], check: Check) -> int:
    by_worker: dict[str, list[Outcome]] = defaultdict(list)
    for job in jobs:
        _, _, raw = entry_of_row(job)
        started = job.last_attempted_at.timestamp() if job.last_attempted_at else 0.0
        delivery = Delivery(job.queue, str(job.pk), raw, started)
        cause = Cause("its worker and Redis were lost", {delivery.id: started}, blameless=True)
        by_worker[str(job.worker_id)].append(lost(delivery, cause))
    count = 0
    for worker_id, outcomes in by_worker.items():
        check()
        accepted, _ = settle.record_apart(outcomes, worker_id)
        found = [(o.delivery.id, o.delivery.queue) for o in outcomes if o.delivery.id in accepted]
        release.restore(client, found)
        settle.announce(outcomes, accepted, worker_id)
        count += len(accepted)
    return count
