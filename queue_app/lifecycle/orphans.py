"""Orphans: rows that say `running` although no child holds them, because their worker and Redis's data were lost."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from uuid import UUID

import redis

from queue_app import clock, conf
from queue_app.dispatch import queues
from queue_app.dispatch.body import Delivery
from queue_app.lifecycle import dispatching, release, settle
from queue_app.lifecycle.recover import Cause, lost
from queue_app.lifecycle.release import Check, unchecked
from queue_app.models import Job
from queue_app.models.bulk import write_alias
from queue_app.states import JobState


def redeliver(client: redis.Redis, *, limit: int = 5_000, check: Check = unchecked) -> int:
    """Rows that say `running` although no child holds them: their worker died together with Redis's data.

    Args:
        limit: rows looked at in one go; all are looked at, as most of them are in good hands and stay.

    Returns:
        How many were delivered again.
    """
    since = clock.now() - timedelta(seconds=2 * conf.get().LEASE)
    rows = Job.objects.using(write_alias()).filter(state=JobState.RUNNING, last_attempted_at__lt=since)
    part = list(rows.order_by("id")[:limit])
    count = 0
    while part:
        count += _some(client, part, check)
        part = list(rows.filter(id__gt=part[-1].pk).order_by("id")[:limit]) if len(part) == limit else []
    return count


def _some(client: redis.Redis, rows: list[Job], check: Check) -> int:
    by_queue: dict[str, list[Job]] = defaultdict(list)
    for job in rows:
        by_queue[job.queue].append(job)
    count = 0
    for queue, jobs in by_queue.items():
        nowhere = set(queues.unknown(client, queue, [str(job.pk) for job in jobs]))
        gone = [job for job in jobs if str(job.pk) in nowhere]  # neither held nor given back
        outcomes = []
        for job in gone:
            _, _, raw = dispatching.entry_of_row(job)
            started = job.last_attempted_at.timestamp() if job.last_attempted_at else 0.0
            delivery = Delivery(queue, str(job.pk), raw, started)
            outcomes.append(
                lost(delivery, Cause("its worker and Redis were lost", running={delivery.id: started}))
            )
        if not outcomes:
            continue
        check()
        accepted, _ = settle.record_apart(outcomes, str(gone[0].worker_id))
        release.restore(client, [(UUID(job_id), queue) for job_id in accepted])
        settle.announce(outcomes, accepted, str(gone[0].worker_id))
        count += len(accepted)
    return count
