"""Something to do for each duty, and how to see whether it was done: for the tests of all of them alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database

from queue_app import clock
from queue_app.dispatch import connection, epochs, queue_stats, workers
from queue_app.domain.states import JobState
from queue_app.lifecycle import push
from queue_app.lifecycle.recovery import rebuild, recover
from queue_app.maintenance.duty import Duty
from queue_app.models import Job, Schedule
from queue_app.queries.queues import depths_of
from tests.app import tasks
from tests.support import plans
from tests.support.epochs import begin_epoch
from tests.support.factories import JobFactory, ScheduleFactory, id_at
from tests.support.jobs import Child, jobs, term_of

#: What can be seen of the work: anything that changes when it is done.
Look = Callable[[], object]


def _later(patch: pytest.MonkeyPatch, seconds: float) -> None:
    patch.setattr(clock.current, "source", lambda source=clock.current.source: source() + seconds)


def _waiting() -> object:
    return depths_of(["default"])


def _unpushed(patch: pytest.MonkeyPatch, task: Any = tasks.noop) -> None:
    with patch.context() as inner:
        inner.setattr(push, "push_quietly", lambda by_queue, made: set())
        jobs(3, task=task)


def _rebuild(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    connection.client().flushall()
    begin_epoch(to=epochs.FILLING)
    _unpushed(patch)
    return _waiting


def _sweep(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    rebuild.at_once(connection.client())
    _unpushed(patch)
    _later(patch, 20)
    return _waiting


def _backlog(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    rebuild.at_once(connection.client())
    _unpushed(patch)
    _later(patch, 3_600)
    return _waiting


def _load_due(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    rebuild.at_once(connection.client())
    _unpushed(patch, tasks.noop.using(run_after=30))
    return _waiting


def _promote_due(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    rebuild.at_once(connection.client())
    tasks.noop.using(run_after=5).enqueue()
    _later(patch, 10)
    return lambda: Job.objects.filter(state=JobState.QUEUED).count()


def _reap(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    from queue_app.maintenance import reap_workers

    patch.setattr(reap_workers.LateHeartbeats, "is_confirmed", lambda self, worker, age: age > 15)
    jobs(3)
    child = Child()
    child.claim(2)
    client = child.client
    client.hset("{jq}:workers", child.worker_id, "1.0|default")
    return lambda: (workers.listed(client), child.held(), Job.objects.filter(attempt=1).count())


def _orphans(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    (job_id,) = jobs(1)
    child = Child()
    (delivery,) = child.claim()
    recover.settle.mark_running(
        [recover.settle.Start(job_id, delivery.number, clock.seconds(), None)], child.worker_id
    )
    Job.objects.filter(pk=job_id).update(last_attempted_at=clock.now() - timedelta(hours=1))
    child.client.flushall()
    rebuild.at_once(child.client)
    return lambda: Job.objects.get(pk=job_id).attempt


def _cancel(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    rebuild.at_once(connection.client())
    found = jobs(2)
    Child().claim(1)
    Job.objects.filter(pk__in=found).update(cancel_requested_at=clock.now())
    return lambda: Job.objects.filter(state=JobState.CANCELLED).count()


def _tick(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    ScheduleFactory(cron="* * * * *")
    _later(patch, 60)
    return lambda: (Job.objects.count(), Schedule.objects.get().next_at)


def _prune(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    JobFactory(state=JobState.SUCCEEDED, enqueued_at=clock.now() - timedelta(days=30))
    return Job.objects.count


def _stats(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    rebuild.at_once(connection.client())
    jobs(2)
    return lambda: queue_stats.load(connection.client())


def _verify(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    client = connection.client()
    jobs(2)
    client.delete("{jq:main}:default:ready:0:-")
    assert duty.run(term_of(client)) == 0, "what is seen once may be wrong"
    client.delete("{jq}:leader")
    return lambda: epochs.read(client)["main"].lost


def _summarize(duty: Duty, patch: pytest.MonkeyPatch) -> Look:
    if database.vendor != "postgresql":
        pytest.skip("there is nothing to do elsewhere")
    now = clock.now()
    Job.objects.bulk_create(
        Job(id=id_at(now, serial), task="shop.a", payload=os.urandom(500).hex(), enqueued_at=now)
        for serial in range(100)
    )
    return lambda: plans.read_for("shop.absent")


WORK: dict[str, Callable[[Duty, pytest.MonkeyPatch], Look]] = {
    "rebuild": _rebuild,
    "sweep": _sweep,
    "backlog": _backlog,
    "load_due": _load_due,
    "promote_due": _promote_due,
    "reap": _reap,
    "cancel": _cancel,
    "orphans": _orphans,
    "verify": _verify,
    "stats": _stats,
    "tick": _tick,
    "prune": _prune,
    "summarize": _summarize,
}
