"""Recover: take back the jobs of dead children and workers, and announce jobs that run. The record decides.

Each of these verbs may be repeated, and interrupted anywhere, without harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from uuid import UUID

import redis

from queue_app import clock, conf, signals
from queue_app.dispatch import queues, workers
from queue_app.dispatch.holder import revoke_calls
from queue_app.dispatch.queues import Entry
from queue_app.domain.causes import Cause
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import lost
from queue_app.domain.states import UNFINISHED
from queue_app.lifecycle import cancel, release, settle
from queue_app.lifecycle.callbacks import Check, never, no_check
from queue_app.lifecycle.entries import entry_of_row
from queue_app.lifecycle.recovery import liveness
from queue_app.models import Job, Worker
from queue_app.models.sql import write_alias


def take_back(
    client: redis.Redis,
    holder: str,
    names: Iterable[str],
    worker_id: str,
    cause: Cause,
    check: Check = no_check,
) -> tuple[int, int]:
    """Take back what a dead child held. Attempts under way are recorded as lost, and their jobs delivered again. Jobs
    that had not started go back without blame. Outcomes that were recorded but not acknowledged are acknowledged. A job
    whose outcome cannot be recorded stays held by the dead child, and is tried again when its worker is reaped.

    Args:
        holder: the dead child.
        names: the queues that it served.
        worker_id: its worker, for the attempts.
        cause: why it died.
        check: called before each batch of writes.

    Returns:
        How many attempts were lost, and how many jobs returned unstarted.

    Raises:
        Unavailable (see dispatch.connection): Redis is away.
        Error: the database is away.
    """
    holder = str(holder)  # plain text, not a `Holder`: calls of the recovery must never be fenced
    lost_ids: list[str] = []
    back_ids: list[str] = []
    for queue in names:
        # First, as a claim that is still on its way would hold jobs for a dead child.
        revoke_calls(client, queue, holder)
        held = workers.held(client, queue, holder)
        # By id, which is by age, so that what goes back keeps its order: a hash of Redis has none.
        deliveries = [Delivery(queue, job_id, raw, at) for job_id, (at, raw) in sorted(held.items())]
        all_recorded = True
        for start in range(0, len(deliveries), release.JOBS_PER_PUSH):
            check()
            gone, back, kept = _take_back_some(
                client, holder, deliveries[start : start + release.JOBS_PER_PUSH], worker_id, cause
            )
            lost_ids += gone
            back_ids += back
            all_recorded = all_recorded and not kept
        check()
        if all_recorded:
            queues.unregister(client, queue, holder)
    if lost_ids or back_ids:
        signals.jobs_recovered.send_robust(
            sender=None, worker_id=worker_id, lost=lost_ids, returned=back_ids, cause=cause.text
        )
    return len(lost_ids), len(back_ids)


def _take_back_some(
    client: redis.Redis, holder: str, deliveries: list[Delivery], worker_id: str, cause: Cause
) -> tuple[list[str], list[str], set[str]]:
    """The ids of the jobs whose attempt was lost, that returned, and that stay held as nothing can be recorded."""
    outcomes = [
        cause.verdicts[d.id](d, (cause.running or {}).get(d.id)) if d.id in cause.verdicts else lost(d, cause)
        for d in deliveries
        if not d.unreadable
        if d.id in cause.verdicts or cause.running is None or d.id in cause.running
    ]
    accepted, kept = settle.record_apart(outcomes, worker_id)
    settle.acknowledge(client, holder, [o for o in outcomes if o.delivery.id in accepted], accepted)
    settle.announce([o for o in outcomes if o.delivery.id in accepted], accepted, worker_id)
    rest = [d for d in deliveries if d.id not in accepted and d.id not in kept]
    returned = give_up(client, holder, rest)
    return [o.delivery.id for o in outcomes if o.delivery.id in accepted], returned, kept


def give_up(client: redis.Redis, holder: str, deliveries: list[Delivery]) -> list[str]:
    """Give deliveries back that did not run. Cancelled jobs end here.

    A new entry is made from the record where it expects another attempt. So it is where the body cannot be read,
    because it is of another release.

    Returns:
        The ids that went back unchanged.
    """
    rows = {
        str(job.pk): job
        for job in Job.objects.using(write_alias()).filter(
            pk__in=[UUID(d.id) for d in deliveries], state__in=sorted(UNFINISHED)
        )
    }
    to_cancel = {i: job.attempt + 1 for i, job in rows.items() if job.cancel_requested_at is not None}
    cancelled = cancel.end_unstarted(to_cancel) if to_cancel else set()
    by_queue: dict[str, tuple[list[str], list[str], list[Entry]]] = defaultdict(lambda: ([], [], []))
    for d in deliveries:
        ended, unstarted, renewed = by_queue[d.queue]
        job = rows.get(d.id)
        if job is None or d.id in cancelled:
            ended.append(d.id)
        elif job.attempt + 1 == d.number:
            unstarted.append(d.id)
        else:
            renewed.append(entry_of_row(job))
    returned = []
    for queue, (ended, unstarted, renewed) in by_queue.items():
        if unstarted:
            queues.give_back(client, queue, holder, unstarted)
        queues.settle(client, queue, holder, ended, renewed)
        returned += unstarted
    return returned


def reap(
    client: redis.Redis,
    own_id: str,
    confirms: Callable[[workers.Listed, float], bool] | None = None,
    check: Check = no_check,
    keep_alive: Check = no_check,
    out_of_time: Callable[[], bool] = never,
    unlisted: bool = True,
) -> int:
    """Recover the jobs of workers whose heartbeat is older than the lease, both in Redis and in their row.

    A worker that is cut off from Redis alone still renews its row, and keeps its jobs.

    Args:
        own_id: the caller, which is left out.
        confirms: called for each other worker with the age of its heartbeat in seconds. A worker over the lease is
            reaped only if this returns True.
        check: called before each batch of writes.
        keep_alive: called in every loop.
        out_of_time: whether to leave the rest to the next call.
        unlisted: whether to look for workers that hold jobs and are not listed: Redis lost the list, and their keepers
            have sent no heartbeat since. All queues have to be asked.

    Returns:
        How many workers were reaped.

    Raises:
        DatabaseError: the rows cannot be read; no worker is reaped then.
    """
    lease = conf.get().LEASE
    now = workers.now(client)
    listed = {worker.id: worker for worker in workers.listed(client)}
    if unlisted:
        for worker_id in (
            liveness.holders_by_worker(client, listed.values(), keep_alive).keys() - listed.keys() - {own_id}
        ):
            workers.register(client, worker_id)  # its lease begins now
    expired = []
    for worker in listed.values():
        age = now - worker.beat
        is_late = worker.id != own_id and (confirms is None or confirms(worker, age))
        if is_late and age > lease:
            expired.append(worker.id)
    if not expired:
        return 0
    cause = Cause(f"no heartbeat for {lease:g} s", blameless=True)
    living = liveness.with_fresh_rows(expired, lease)
    dead = [worker_id for worker_id in expired if worker_id not in living]
    holders = liveness.holders_by_worker(client, listed.values(), keep_alive) if dead else {}
    count = 0
    for worker_id in dead:
        for holder, held_queues in holders.get(worker_id, {}).items():
            keep_alive()
            take_back(client, holder, held_queues, worker_id, cause, check)
        check()
        workers.remove(client, worker_id)
        Worker.objects.using(write_alias()).filter(pk=worker_id, stopped_at=None).update(
            stopped_at=clock.now()
        )
        count += 1
        if out_of_time():
            break
    return count


def announce_running(client: redis.Redis, holder: str, running: Iterable[tuple[str, int, float]]) -> int:
    """After Redis lost its data, tell it again which jobs a living child runs.

    Args:
        running: (id, attempt number, start in epoch seconds) of each job under way.

    Returns:
        How many were announced.
    """
    numbers = {UUID(job_id): (number, started) for job_id, number, started in running}
    count = 0
    for job in Job.objects.using(write_alias()).filter(pk__in=numbers, state__in=sorted(UNFINISHED)):
        number, started = numbers[job.pk]
        if job.attempt + 1 == number:
            job_id, _, body = entry_of_row(job)
            queues.hold(client, job.queue, holder, started, {job_id: body})
            count += 1
    # A job that was settled before it was announced must not stay held.
    for job in Job.objects.using(write_alias()).filter(pk__in=numbers).only("queue", "state", "attempt"):
        if job.is_finished or job.attempt + 1 != numbers[job.pk][0]:
            queues.settle(client, job.queue, holder, [str(job.pk)])
    return count
