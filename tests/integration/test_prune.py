"""Retention: what is over leaves, oldest first, with its attempts; what is not stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import override_settings

from queue_app import clock, ids
from queue_app.lifecycle import prune
from queue_app.models import Attempt, DeadLetter, Job, Queue, Worker
from queue_app.states import JobState
from tests.factories import JobFactory, WorkerFactory

pytestmark = pytest.mark.django_db

DAY = 86_400.0


def made(state: JobState, days: float, queue: str = "default") -> Job:
    """A job that finished so many days ago."""
    job = JobFactory(state=state, queue=queue)
    at = clock.now() - timedelta(days=days)
    aged = ids.floor(at.timestamp() - 60 - made.count)
    made.count += 1
    Attempt.objects.filter(job=job).update(job_id=aged)
    DeadLetter.objects.filter(job=job).update(job_id=aged)
    Job.objects.filter(pk=job.pk).update(id=aged, finished_at=at if job.finished_at else None)
    return Job.objects.get(pk=aged)


made.count = 0  # type: ignore[attr-defined]


def left() -> set[object]:
    return set(Job.objects.values_list("pk", flat=True))


def test_each_state_has_its_retention() -> None:
    gone = [made(JobState.SUCCEEDED, 8), made(JobState.CANCELLED, 8), made(JobState.FAILED, 91)]
    stay = [made(JobState.SUCCEEDED, 6), made(JobState.FAILED, 89), made(JobState.QUEUED, 400)]
    assert prune.prune() == len(gone)
    assert left() == {job.pk for job in stay}
    assert not Attempt.objects.filter(job_id__in=[job.pk for job in gone]).exists()
    assert not DeadLetter.objects.filter(job_id__in=[job.pk for job in gone]).exists()
    assert Attempt.objects.filter(job_id=stay[1].pk).exists()
    assert DeadLetter.objects.filter(job_id=stay[1].pk).exists()
    assert prune.prune() == 0


def test_a_queue_may_keep_longer_or_shorter() -> None:
    Queue.objects.create(name="audit", keep_succeeded=365 * DAY)
    Queue.objects.create(name="noise", keep_succeeded=0)
    kept, gone = made(JobState.SUCCEEDED, 100, "audit"), made(JobState.SUCCEEDED, 0.01, "noise")
    other = made(JobState.SUCCEEDED, 1)
    assert prune.prune() == 1
    assert left() == {kept.pk, other.pk}
    assert gone.pk not in left()


@override_settings(QUEUE_APP={"KEEP_SUCCEEDED": None, "KEEP_FAILED": None})
def test_none_keeps_for_ever() -> None:
    made(JobState.SUCCEEDED, 5_000)
    made(JobState.FAILED, 5_000)
    assert prune.prune() == 0


def test_the_oldest_go_first_and_a_call_is_bounded() -> None:
    jobs = [made(JobState.SUCCEEDED, days) for days in (30, 10, 20)]
    assert prune.prune(limit=2) == 2
    assert left() == {jobs[1].pk}


def test_workers_are_not_touched() -> None:
    worker = WorkerFactory()
    job = made(JobState.SUCCEEDED, 30)
    Job.objects.filter(pk=job.pk).update(worker_id=worker.pk)
    assert prune.prune() == 1
    assert Worker.objects.filter(pk=worker.pk).exists()
