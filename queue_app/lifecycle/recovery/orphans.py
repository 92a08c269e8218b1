"""Orphans: rows that say `running` although no child holds them, because their worker and Redis's data were lost.

A worker may reach the data that Redis has now later than others: it takes a while until it hears of a failover. Its row
is fresh then, and what it runs is its own.
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
from queue_app.lifecycle.entries import entry_of_row
from queue_app.lifecycle.recovery import witnesses
from queue_app.lifecycle.release import Check, unchecked
from queue_app.models import Job
from queue_app.models.sql import write_alias


def recover_orphaned(client: redis.Redis, *, limit: int = 5_000, check: Check = unchecked) -> int:
    """Rows that say `running` although no child holds them: their worker died together with Redis's data. No job is to
    blame for that.

    Args:
        limit: rows looked at in one go; all are looked at, as most of them are in good hands and stay.
        check: asked before each batch of writes.

    Returns:
        How many were delivered again.
    """
    count, behind = redeliver_some(client, limit=limit, check=check)
    while behind is not None:
        found, behind = redeliver_some(client, behind, limit=limit, check=check)
        count += found
    return count


def redeliver_some(
    client: redis.Redis, after: UUID | None = None, *, limit: int = 5_000, check: Check = unchecked
) -> tuple[int, UUID | None]:
    """A part of `recover_orphaned`.

    Args:
        after: go on behind this id; None: from the oldest on.
        limit: most rows looked at.
        check: asked before each batch of writes.

    Returns:
        How many were delivered again, and the id to go on behind; None when the end was reached.
    """
    since = clock.now() - timedelta(seconds=2 * conf.get().LEASE)
    rows = Job.objects.using(write_alias()).filter(state=JobState.RUNNING, last_attempted_at__lt=since)
    if after is not None:
        rows = rows.filter(id__gt=after)
    part = list(rows.order_by("id").values_list("pk", "queue", "worker_id")[:limit])
    # Neither held nor given back. Their rows are read after that: they may have moved on.
    nowhere = release.unknown(client, [(pk, queue) for pk, queue, _ in part])
    if nowhere:
        nowhere = _without_hands(client, nowhere, {str(pk): worker for pk, _, worker in part})
    count = 0
    for begin in range(0, len(nowhere), release.JOBS_PER_PUSH):
        gone = [UUID(job_id) for job_id, _ in nowhere[begin : begin + release.JOBS_PER_PUSH]]
        count += _lose(client, list(rows.filter(pk__in=gone).order_by("id")), check)
    return count, part[-1][0] if len(part) == limit else None


def _without_hands(
    client: redis.Redis, nowhere: list[tuple[str, str]], owners: dict[str, UUID | None]
) -> list[tuple[str, str]]:
    """Leave out what is run by a living worker that has not announced yet, to the data of now, what it runs."""
    names = _names(client)
    announced = {shard: epochs.announced(client, shard, name) for shard, name in names.items()}
    # Asked again: who has announced since the first look holds by now what it runs.
    nowhere = release.unknown(client, nowhere)
    if _names(client) != names:
        return []
    asked = {str(owner) for job_id, _ in nowhere if (owner := owners[job_id]) is not None}
    living = witnesses.with_fresh_rows(asked, conf.get().LEASE)
    return [
        (job_id, queue)
        for job_id, queue in nowhere
        if str(owners[job_id]) not in living - announced[keys.shard_of(queue)]
    ]


def _names(client: redis.Redis) -> dict[str, str]:
    return {shard: epoch.name for shard, epoch in epochs.read(client).items()}


def _lose(client: redis.Redis, jobs: list[Job], check: Check) -> int:
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
