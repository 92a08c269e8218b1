"""Recover: jobs of the dead are taken back, what Redis lost is pushed again. The record says what is right.

Everybody who recovers calls these few verbs; each can be repeated, and interrupted anywhere, without harm.
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
from queue_app.domain import ids
from queue_app.domain.causes import Cause
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import lost
from queue_app.domain.states import UNFINISHED
from queue_app.lifecycle import cancel, release, settle
from queue_app.lifecycle.entries import entry_of_row
from queue_app.lifecycle.recovery import witnesses
from queue_app.lifecycle.release import Check, unchecked
from queue_app.models import Job, Worker, sql
from queue_app.models.sql import write_alias

#: Where a walk through the backlog stands: a queue, and an id in it.
Place = tuple[str, UUID]


def take_back(
    client: redis.Redis,
    holder: str,
    names: Iterable[str],
    worker_id: str,
    cause: Cause,
    check: Check = unchecked,
) -> tuple[int, int]:
    """Take back what a dead child held: what was under way is recorded as lost and delivered again, what had not
    started goes back without blame, and what was recorded but not acknowledged is let go of. What cannot be recorded
    stays held by the dead child; it is tried again when its worker is buried.

    Args:
        holder: the dead child.
        names: the queues that it served.
        worker_id: its worker, for the attempts.
        check: asked before each batch of writes.

    Returns:
        How many jobs were lost, and how many returned.
    """
    holder = str(holder)  # whoever acts for the dead is kept out by no fence
    lost_ids: list[str] = []
    back_ids: list[str] = []
    for queue in names:
        revoke_calls(
            client, queue, holder
        )  # a claim that is still on its way would hold jobs for a dead child
        held = workers.held(client, queue, holder)
        # By id, which is by age: a hash of Redis keeps no order, and what goes back shall keep its own.
        deliveries = [Delivery(queue, job_id, raw, at) for job_id, (at, raw) in sorted(held.items())]
        discharged = True
        for start in range(0, len(deliveries), release.JOBS_PER_PUSH):
            check()
            gone, back, kept = _take_back_some(
                client, holder, deliveries[start : start + release.JOBS_PER_PUSH], worker_id, cause
            )
            lost_ids += gone
            back_ids += back
            discharged = discharged and not kept
        check()
        if discharged:
            queues.unregister(client, queue, holder)
    if lost_ids or back_ids:
        signals.jobs_recovered.send_robust(
            sender=None, worker_id=worker_id, lost=lost_ids, returned=back_ids, cause=cause.text
        )
    return len(lost_ids), len(back_ids)


def _take_back_some(
    client: redis.Redis, holder: str, deliveries: list[Delivery], worker_id: str, cause: Cause
) -> tuple[list[str], list[str], set[str]]:
    """Ids of those that were lost, that returned, and that stay held: their loss cannot be recorded."""
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
    """Let go of deliveries that did not run: they go back, unless the record has moved on, or the body cannot be read
    (it is of another release): then Redis is told what the record says. Jobs that were cancelled meanwhile end here.

    Returns:
        The ids that went back unchanged.
    """
    rows = {
        str(job.pk): job
        for job in Job.objects.using(write_alias()).filter(
            pk__in=[UUID(d.id) for d in deliveries], state__in=sorted(UNFINISHED)
        )
    }
    shall_end = {i: job.attempt + 1 for i, job in rows.items() if job.cancel_requested_at is not None}
    cancelled = cancel.end_unstarted(shall_end) if shall_end else set()
    by_queue: dict[str, tuple[list[str], list[str], list[Entry]]] = defaultdict(lambda: ([], [], []))
    for d in deliveries:
        ended, unstarted, moved_on = by_queue[d.queue]
        job = rows.get(d.id)
        if job is None or d.id in cancelled:
            ended.append(d.id)
        elif job.attempt + 1 == d.number:
            unstarted.append(d.id)
        else:
            moved_on.append(entry_of_row(job))
    returned = []
    for queue, (ended, unstarted, moved_on) in by_queue.items():
        if unstarted:
            queues.give_back(client, queue, holder, unstarted)
        queues.settle(client, queue, holder, ended, moved_on)
        returned += unstarted
    return returned


def reap(
    client: redis.Redis,
    own_id: str,
    silent: Callable[[workers.Listed, float], bool] | None = None,
    check: Check = unchecked,
    keep: Check = unchecked,
    over: Callable[[], bool] = lambda: False,
    unlisted: bool = True,
) -> int:
    """Take over from workers whose heartbeat is older than the lease, in Redis and in their row.

    A worker that is cut off from Redis alone still renews its row: what it runs is its own.

    Args:
        silent: asked for each of the others, with the age of its heartbeat in seconds; one over the lease is buried
            only if it agrees.
        check: called before each batch of writes.
        keep: called in every loop.
        over: whether to leave the rest to the next call.
        unlisted: whether to look for workers that hold jobs and are not listed: Redis lost the list, and their keepers
            have not spoken since. It takes a look at all queues.

    Returns:
        How many workers were buried.

    Raises:
        DatabaseError: the rows cannot be read; no worker is buried then.
    """
    lease = conf.get().LEASE
    now = workers.now(client)
    listed = {worker.id: worker for worker in workers.listed(client)}
    if unlisted:
        for worker_id in witnesses.holding(client, listed.values(), keep).keys() - listed.keys() - {own_id}:
            workers.register(client, worker_id)  # its lease begins
    suspects = []
    for worker in listed.values():
        age = now - worker.beat
        agreed = worker.id != own_id and (silent is None or silent(worker, age))
        if agreed and age > lease:
            suspects.append(worker.id)
    if not suspects:
        return 0
    cause = Cause(f"no heartbeat for {lease:g} s", blameless=True)
    living = witnesses.with_fresh_rows(suspects, lease)
    silent_ids = [worker_id for worker_id in suspects if worker_id not in living]
    holding = witnesses.holding(client, listed.values(), keep) if silent_ids else {}
    count = 0
    for worker_id in silent_ids:
        for holder, held_queues in holding.get(worker_id, {}).items():
            keep()
            take_back(client, holder, held_queues, worker_id, cause, check)
        check()
        workers.remove(client, worker_id)
        Worker.objects.using(write_alias()).filter(pk=worker_id, stopped_at=None).update(
            stopped_at=clock.now()
        )
        count += 1
        if over():
            break
    return count


def announce_running(client: redis.Redis, holder: str, running: Iterable[tuple[str, int, float]]) -> int:
    """After Redis lost its data: let it know again what a living child is running.

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
    # What was settled meanwhile, before it was announced, must not stay held.
    for job in Job.objects.using(write_alias()).filter(pk__in=numbers).only("queue", "state", "attempt"):
        if job.is_finished or job.attempt + 1 != numbers[job.pk][0]:
            queues.settle(client, job.queue, holder, [str(job.pk)])
    return count


def sweep(
    client: redis.Redis,
    *,
    limit: int = 2_000,
    after: Place | None = None,
    check: Check = unchecked,
    keep: Check = unchecked,
) -> tuple[int, Place | None]:
    """Push rows that were committed but never pushed; a part of a long backlog, by queue and id. What is new is found
    sooner by `sweep.Recent`.

    Args:
        limit: most rows looked at in one call.
        after: continue behind this place.
        check: asked before each batch of writes.
        keep: called in every loop.

    Returns:
        How many were missing, and the place to continue behind (None: the end was reached).
    """
    database = sql.write_connection()
    until = ids.floor(clock.seconds() - conf.get().SWEEP_GRACE)
    walk = sql.for_vendor(database).walk_waiting
    found = walk(database, after or ("", ids.floor(0)), until, limit)
    count = release.restore_missing(client, found, check=check, keep=keep)
    return count, (found[-1][1], UUID(found[-1][0])) if len(found) == limit else None
