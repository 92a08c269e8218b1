"""Rows that are consistent with their state: times, attempts, and the dead letter of a failed job.

    JobFactory(state="failed", max_attempts=2)     with two attempts and an open dead letter
    JobFactory(state="succeeded", result="[1]")
    JobFactory.create_batch(50, state="queued", queue="mail")

What is given is kept; the rest follows from the state. `history=False` leaves attempts and dead letter out,
`history="attempts"` the dead letter alone.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import factory

from queue_app import clock
from queue_app.domain import ids
from queue_app.domain.fingerprint import fingerprint
from queue_app.domain.states import FINAL, TIMED, AttemptState, DeadReason, JobState
from queue_app.models import Attempt, AuditEvent, DeadLetter, Job, Queue, Schedule, Worker

ERROR = "builtins.ValueError"
MESSAGE = "on purpose"
TRACEBACK = f'Traceback (most recent call last):\n  File "tasks.py", line 1, in fail\nValueError: {MESSAGE}\n'


def id_at(moment: datetime, serial: int = 0) -> UUID:
    """A UUIDv7 made at `moment`; of those of one millisecond, a higher serial sorts later."""
    return UUID(int=ids.floor(moment.timestamp()).int | (serial & 0xFFF) << 64 | random.getrandbits(62))


class WorkerFactory(factory.django.DjangoModelFactory):
    """A worker that is alive; `status="silent"`, `"stuck"` or `"stopped"` for the others."""

    class Meta:
        model = Worker

    class Params:
        status = "alive"
        seen = factory.LazyAttribute(
            lambda o: clock.now() - timedelta(hours=1 if o.status in ("silent", "stopped") else 0)
        )

    hostname = factory.Sequence(lambda n: f"host-{n}")
    pid = factory.Sequence(lambda n: 1_000 + n)
    queues = "default"
    processes = 2
    slots = 1
    started_at = factory.LazyAttribute(lambda o: o.seen - timedelta(hours=1))
    heartbeat_at = factory.SelfAttribute("seen")
    last_claim_at = factory.LazyAttribute(
        lambda o: o.seen - timedelta(minutes=30) if o.status == "stuck" else o.seen
    )
    stopped_at = factory.LazyAttribute(lambda o: o.seen if o.status == "stopped" else None)


class QueueFactory(factory.django.DjangoModelFactory):
    """What an operator has said of a queue."""

    class Meta:
        model = Queue
        django_get_or_create = ("name",)

    name = factory.Sequence(lambda n: f"queue-{n}")


class ScheduleFactory(factory.django.DjangoModelFactory):
    """A schedule that is due at each full hour."""

    class Meta:
        model = Schedule

    name = factory.Sequence(lambda n: f"schedule {n}")
    task = "tests.app.tasks.noop"
    cron = "0 * * * *"
    zone = "UTC"


def _attempts_of(job: Any) -> int:
    if job.state in (JobState.SUCCEEDED, JobState.RETRYING):
        return 1
    return job.max_attempts if job.state == JobState.FAILED else 0


def _began(job: Any) -> datetime | None:
    """When the first attempt began, if there was one."""
    started = job.attempt > 0 or job.state == JobState.RUNNING
    return job.enqueued_at + timedelta(seconds=1) if started else None


class JobFactory(factory.django.DjangoModelFactory):
    """A job, enqueued a minute ago, with the attempts and dead letter that belong to its state."""

    class Meta:
        model = Job
        skip_postgeneration_save = True

    class Params:
        serial = factory.Sequence(int)

    state = JobState.QUEUED
    task = "tests.app.tasks.echo"
    queue = "default"
    payload = "[[1],{}]"
    max_attempts = 2
    enqueued_at = factory.LazyFunction(lambda: clock.now() - timedelta(minutes=1))
    id = factory.LazyAttribute(lambda o: id_at(o.enqueued_at, o.serial))
    run_after = factory.LazyAttribute(
        lambda o: clock.now() + timedelta(hours=1) if o.state in TIMED else None
    )
    attempt = factory.LazyAttribute(_attempts_of)
    failures = factory.LazyAttribute(
        lambda o: max(0, o.attempt - 1) if o.state == JobState.SUCCEEDED else o.attempt
    )
    worker_id = factory.LazyAttribute(lambda o: ids.new_id() if _began(o) else None)
    started_at = factory.LazyAttribute(_began)
    last_attempted_at = factory.LazyAttribute(
        lambda o: o.started_at and o.started_at + timedelta(seconds=max(0, o.attempt - 1))
    )
    finished_at = factory.LazyAttribute(
        lambda o: o.enqueued_at + timedelta(seconds=2 + o.attempt) if o.state in FINAL else None
    )
    result = factory.LazyAttribute(lambda o: "null" if o.state == JobState.SUCCEEDED else None)

    @factory.post_generation
    def history(self: Job, create: bool, extracted: bool | str | None, **_: Any) -> None:
        """The rows of the attempts that have ended, and the dead letter."""
        if not create or extracted is False:
            return
        for number in range(1, self.attempt + 1):
            good = self.state == JobState.SUCCEEDED and number == self.attempt
            AttemptFactory(job=self, number=number, state="succeeded" if good else "failed")
        if self.state == JobState.FAILED and extracted != "attempts":
            DeadLetterFactory(job=self)


class AttemptFactory(factory.django.DjangoModelFactory):
    """An attempt that failed, unless it is given another state. Give it the job whose attempt it is."""

    class Meta:
        model = Attempt

    class Params:
        erred = factory.LazyAttribute(
            lambda o: o.state in (AttemptState.FAILED, AttemptState.TIMED_OUT, AttemptState.LOST)
        )

    job = factory.SubFactory(JobFactory, state=JobState.RETRYING, history=False)
    number = 1
    state = AttemptState.FAILED
    worker_id = factory.SelfAttribute("job.worker_id")
    started_at = factory.LazyAttribute(
        lambda o: (_began(o.job) or clock.now()) + timedelta(seconds=o.number - 1)
    )
    finished_at = factory.LazyAttribute(lambda o: o.started_at + timedelta(milliseconds=500))
    error_class = factory.LazyAttribute(lambda o: ERROR if o.erred else "")
    error = factory.LazyAttribute(lambda o: MESSAGE if o.erred else "")
    traceback = factory.LazyAttribute(lambda o: TRACEBACK if o.erred else "")


class DeadLetterFactory(factory.django.DjangoModelFactory):
    """The dead letter of a failed job, which comes with it. `JobFactory(state="failed")` makes one too."""

    class Meta:
        model = DeadLetter

    class Params:
        serial = factory.Sequence(int)

    job = factory.SubFactory(JobFactory, state=JobState.FAILED, history="attempts")
    id = factory.LazyAttribute(lambda o: id_at(o.created_at, o.serial))
    task = factory.SelfAttribute("job.task")
    queue = factory.SelfAttribute("job.queue")
    reason = DeadReason.EXHAUSTED
    attempts = factory.SelfAttribute("job.attempt")
    error_class = ERROR
    error = MESSAGE
    fingerprint = factory.LazyAttribute(lambda o: fingerprint(o.task, o.error_class, o.error, TRACEBACK))
    created_at = factory.LazyAttribute(lambda o: o.job.finished_at or clock.now())


class AuditEventFactory(factory.django.DjangoModelFactory):
    """Something that ada did."""

    class Meta:
        model = AuditEvent

    class Params:
        serial = factory.Sequence(int)

    at = factory.LazyFunction(clock.now)
    id = factory.LazyAttribute(lambda o: id_at(o.at, o.serial))
    actor_kind = "user"
    actor = "ada"
    verb = "pause"
    target_kind = "queue"
    target_id = "mail"
    count = 1
