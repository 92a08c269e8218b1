"""Recover: jobs of the dead are taken back, what Redis lost is pushed again. The record says what is right.

Everybody who recovers calls these few verbs; each can be repeated, and interrupted anywhere, without harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID

import redis

from queue_app import clock, conf, ids, signals
from queue_app.dispatch import keys, queues, workers
from queue_app.dispatch.body import Delivery
from queue_app.dispatch.holder import raise_fence
from queue_app.dispatch.queues import Entry
from queue_app.lifecycle import cancelling, dispatching, release, settle
from queue_app.lifecycle.outcome import Outcome
from queue_app.lifecycle.release import Check, unchecked
from queue_app.lifecycle.sweep import queues_that_wait, waiting_in
from queue_app.models import Job, Queue, Worker, bulk
from queue_app.models.bulk import write_alias
from queue_app.states import UNFINISHED, AttemptState, DeadReason, JobState

#: Makes an outcome of a delivery whose process died while it ran, given when it started (epoch seconds).
Verdict = Callable[[Delivery, float | None], Outcome]

#: Where a walk through the backlog stands: a queue, and an id in it.
Place = tuple[str, UUID]


@dataclass(slots=True)
class Cause:
    """Why a process died, and what it was running.

    Attributes:
        text: for people: "killed by SIGKILL", "exit code 3", "no heartbeat for 15 s".
        running: id → epoch seconds at which its attempt began, of the jobs that were under way. None where nobody
            knows (another host): then every job it held is taken to have been running.
        verdicts: id → outcome, for jobs that the supervisor killed on purpose (time limit).
        blameless: no job is to blame (the worker was told to stop): none is recorded as lost for it.
        importing: those of `running` whose task's module was being imported.
    """

    text: str
    running: dict[str, float] | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    blameless: bool = False
    importing: frozenset[str] = frozenset()

    @property
    def counts(self) -> bool:
        """Whether the death counts against the job that ran. Of several that ran together it may have been any: they
        become suspects, and the next death counts, as each suspect is run alone."""
        return not self.blameless and (self.running is None or len(self.running) <= 1)

    def words(self, delivery: Delivery) -> str:
        """The cause, as the attempt of this job tells it."""
        text = self.text
        if delivery.id in self.importing:
            text += f", while importing {delivery.task.rpartition('.')[0]}"
        others = len(self.running or ()) - 1
        if others > 0 and not self.blameless:
            text += f", with {others} other job{'s' * (others > 1)} in it: this one is run alone next time"
        return text


def take_back(
    client: redis.Redis,
    holder: str,
    names: Iterable[str],
    worker_id: str,
    cause: Cause,
    check: Check = unchecked,
) -> tuple[int, int]:
    """Take back what a dead child held: what was under way is recorded as lost and delivered again, what had not
    started goes back without blame, and what was recorded but not acknowledged is let go of.

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
        raise_fence(client, queue, holder)  # a claim that is still on its way would hold jobs for nobody
        held = workers.held(client, queue, holder)
        # By id, which is by age: a hash of Redis keeps no order, and what goes back shall keep its own.
        deliveries = [Delivery(queue, job_id, raw, at) for job_id, (at, raw) in sorted(held.items())]
        for start in range(0, len(deliveries), release.CHUNK):
            check()
            lost, back = _take_back_some(
                client, holder, deliveries[start : start + release.CHUNK], worker_id, cause
            )
            lost_ids += lost
            back_ids += back
        check()
        queues.discharge(client, queue, holder)
    if lost_ids or back_ids:
        signals.jobs_recovered.send_robust(
            sender=None, worker_id=worker_id, lost=lost_ids, returned=back_ids, cause=cause.text
        )
    return len(lost_ids), len(back_ids)


def _take_back_some(
    client: redis.Redis, holder: str, deliveries: list[Delivery], worker_id: str, cause: Cause
) -> tuple[list[str], list[str]]:
    outcomes = [
        cause.verdicts[d.id](d, (cause.running or {}).get(d.id)) if d.id in cause.verdicts else lost(d, cause)
        for d in deliveries
        if not d.unreadable
        if d.id in cause.verdicts or cause.running is None or d.id in cause.running
    ]
    accepted = settle.record(outcomes, worker_id)
    settle.acknowledge(client, holder, [o for o in outcomes if o.delivery.id in accepted], accepted)
    settle.announce([o for o in outcomes if o.delivery.id in accepted], accepted, worker_id)
    rest = [d for d in deliveries if d.id not in accepted]
    returned = give_up(client, holder, rest)
    return [o.delivery.id for o in outcomes if o.delivery.id in accepted], returned


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
    cancelled = cancelling.end_unstarted(shall_end) if shall_end else set()
    by_queue: dict[str, tuple[list[str], list[str], list[Entry]]] = defaultdict(lambda: ([], [], []))
    for d in deliveries:
        ended, unstarted, moved_on = by_queue[d.queue]
        job = rows.get(d.id)
        if job is None or d.id in cancelled:
            ended.append(d.id)
        elif job.attempt + 1 == d.number:
            unstarted.append(d.id)
        else:
            moved_on.append(dispatching.entry_of_row(job))
    returned = []
    for queue, (ended, unstarted, moved_on) in by_queue.items():
        if unstarted:
            queues.give_back(client, queue, holder, unstarted)
        queues.settle(client, queue, holder, ended, moved_on)
        returned += unstarted
    return returned


def lost(delivery: Delivery, cause: Cause) -> Outcome:
    """The outcome of an attempt whose process died. It does not use up the job's attempts; but a job that keeps
    killing its process is quarantined (P9)."""
    now = clock.seconds()
    poison = cause.counts and delivery.deaths + 1 >= conf.get().POISON_AFTER
    return Outcome(
        delivery=delivery,
        state=AttemptState.LOST,
        started_at=(cause.running or {}).get(delivery.id, delivery.claimed_at),
        finished_at=now,
        error_class="" if cause.blameless else "queue_app.exceptions.ProcessDied",
        error=cause.words(delivery),
        counts=cause.counts,
        dead_reason=DeadReason.POISON if poison else None,
        suspect=delivery.suspect or not cause.blameless,
    )


def reap(
    client: redis.Redis,
    own_id: str,
    silent: Callable[[workers.Listed, float], bool] | None = None,
    check: Check = unchecked,
) -> int:
    """Take over from workers whose heartbeat is older than the lease.

    Args:
        silent: asked for each of the others, with the age of its heartbeat in seconds; one over the lease is buried
            only if it agrees.
        check: called before each batch of writes.

    Returns:
        How many workers were buried.
    """
    lease = conf.get().LEASE
    now = workers.now(client)
    listed = {worker.id: worker for worker in workers.listed(client)}
    names = queues.known(client).union(*(worker.queues for worker in listed.values()))
    holding: dict[str, dict[str, list[str]]] = {worker_id: {} for worker_id in listed}
    for queue in sorted(names):
        for holder in queues.holders(client, queue):
            holding.setdefault(workers.owner(holder), {}).setdefault(holder, []).append(queue)
    count = 0
    for worker_id, holders in holding.items():
        if worker_id == own_id:
            continue
        if (
            worker_id not in listed
        ):  # Redis lost its data, and its keeper has not spoken since: its lease begins
            workers.enlist(client, worker_id)
            continue
        age = now - listed[worker_id].beat
        agreed = silent is None or silent(listed[worker_id], age)
        if age <= lease or not agreed:
            continue
        cause = Cause(f"no heartbeat for {lease:g} s")
        for holder, held_queues in holders.items():
            take_back(client, holder, held_queues, worker_id, cause, check)
        check()
        workers.remove(client, worker_id)
        Worker.objects.using(write_alias()).filter(pk=worker_id, stopped_at=None).update(
            stopped_at=clock.now()
        )
        count += 1
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
            job_id, _, body = dispatching.entry_of_row(job)
            queues.hold(client, job.queue, holder, started, {job_id: body})
            count += 1
    # What was settled meanwhile, before it was announced, must not stay held.
    for job in Job.objects.using(write_alias()).filter(pk__in=numbers).only("queue", "state", "attempt"):
        if job.is_finished or job.attempt + 1 != numbers[job.pk][0]:
            queues.settle(client, job.queue, holder, [str(job.pk)])
    return count


def rebuild(client: redis.Redis, check: Check = unchecked) -> int:
    """Put back all that waits, in order, in batches, while new work flows. Living workers must have announced what
    they run (`announce_running`) before.

    Returns:
        How many jobs were put back.
    """
    using = write_alias()
    sync_pauses(client, check)
    rows = Job.objects.using(using).filter(state=JobState.QUEUED).order_by("-priority", "id")
    found = bulk.for_vendor(bulk.write_connection()).ids_and_queues(rows).iterator(chunk_size=release.CHUNK)
    count = release.restore(client, found, check)
    count += release.load_due(client, limit=1_000_000, check=check)
    names = set(Job.objects.using(using).waiting_now().values_list("queue", flat=True).distinct())
    names |= set(Job.objects.using(using).timed().values_list("queue", flat=True).distinct())
    check()
    if names:
        queues.note(client, names)
    client.set(keys.epoch(), ids.new_text())
    return count


def sync_pauses(client: redis.Redis, check: Check = unchecked) -> int:
    """Let Redis hold back what the rows say is paused, and nothing else (it may have been away when it was said).

    Returns:
        How many queues were put right.
    """
    count = 0
    for name, paused in Queue.objects.using(write_alias()).values_list("name", "paused"):
        if queues.is_paused(client, name) != paused:
            check()
            queues.pause(client, name, paused)
            count += 1
    return count


def sweep(
    client: redis.Redis, *, limit: int = 2_000, after: Place | None = None, check: Check = unchecked
) -> tuple[int, Place | None]:
    """Push rows that were committed but never pushed; a part of a long backlog, by queue and id. What is new is found
    sooner by `sweep.Recent`.

    Args:
        limit: most rows looked at in one call.
        after: continue behind this place.
        check: asked before each batch of writes.

    Returns:
        How many were missing, and the place to continue behind (None: the end was reached).
    """
    grace = ids.floor(clock.seconds() - conf.get().SWEEP_GRACE)
    first, last = after or ("", None)
    found: list[tuple[UUID, str]] = []
    for name in queues_that_wait(first):
        rows = waiting_in(name).filter(id__lt=grace)
        if last is not None and name == first:
            rows = rows.filter(id__gt=last)
        found += rows.order_by("id").values_list("pk", "queue")[: limit - len(found)]
        if len(found) == limit:
            break
    count = release.restore(client, found, check)
    return count, (found[-1][1], found[-1][0]) if len(found) == limit else None
