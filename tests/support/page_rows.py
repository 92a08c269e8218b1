"""Rows and users for the tests of what pages cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db import transaction

from queue_app import clock
from queue_app.dispatch import connection, queue_stats, workers
from queue_app.dispatch.queue_stats import QueueStats, Sample
from queue_app.models import AuditEvent, Job, Queue, Schedule, Worker
from tests.app import tasks
from tests.support.factories import (
    AuditEventFactory,
    DeadLetterFactory,
    JobFactory,
    QueueFactory,
    ScheduleFactory,
    WorkerFactory,
)
from tests.support.jobs import term_of


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of all kinds, as many of each.

    Attributes:
        queues: not paused.
        failed: jobs of one attempt, each in one of these queues, with an open dead letter.
        tried: a job that waits, with as many attempts and dead letters behind it.
        waiting: jobs that Redis has, each in one of these queues.
        mail: the same, all in the queue `mail`.
    """

    queues: list[Queue]
    failed: list[Job]
    tried: Job
    waiting: list[Job]
    mail: list[Job]
    schedules: list[Schedule]
    workers: list[Worker]
    events: list[AuditEvent]

    def of(self, model: str) -> list[Any]:
        """The rows of a model for its pages, and for actions that take any; of jobs the one whose page shows most."""
        found: dict[str, list[Any]] = {
            "attempt": [job.attempts.get() for job in self.failed],
            "auditevent": self.events,
            "deadletter": [job.dead_letters.get() for job in self.failed],
            "job": [self.tried],
            "queue": self.queues,
            "schedule": self.schedules,
            "worker": self.workers,
        }
        return found[model]


def add_rows(count: int) -> Rows:
    """Add so many rows of each kind, and a leader if there is none."""
    with transaction.atomic():
        queues = QueueFactory.create_batch(count)
        names = [queue.name for queue in queues]
        rows = Rows(
            queues,
            failed=[JobFactory(state="failed", queue=name, max_attempts=1) for name in names],
            tried=_tried(count),
            waiting=[_enqueued(name) for name in names],
            mail=[_enqueued("mail") for _ in names],
            schedules=ScheduleFactory.create_batch(count),
            workers=WorkerFactory.create_batch(count),
            events=[AuditEventFactory(at=clock.now(), target_id=name) for name in names],
        )
    client = connection.client()
    for n in range(count):
        busy = {name: QueueStats(waiting=1, held=2, ended={"succeeded": 9}, run_ms=500) for name in names}
        queue_stats.save(client, Sample(1e9 + 10 * n, 10.0, busy))
    if workers.leader(client) is None:
        term_of(client, str(rows.workers[0].pk))
    return rows


def _enqueued(queue: str) -> Job:
    return Job.objects.get(pk=tasks.noop.using(queue_name=queue).enqueue().id)


def _tried(times: int) -> Job:
    job: Job = JobFactory(state="retrying", attempt=times, max_attempts=times + 1)
    DeadLetterFactory.create_batch(times, job=job, replayed_at=clock.now())
    return job


def operator() -> User:
    """Staff with all of our rights, by a group, as it should be given; of a superuser nothing is asked."""
    group = Group.objects.create(name="operators")
    group.permissions.set(Permission.objects.filter(content_type__app_label="queue_app"))
    user = User.objects.create_user("clerk", is_staff=True)
    user.groups.add(group)
    return user
