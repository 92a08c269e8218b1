"""The factories' rows are as the lifecycle would have written them."""

from __future__ import annotations

import pytest

from queue_app.domain import ids
from queue_app.domain.states import FINAL, TIMED, WAITING, JobState
from queue_app.models import Attempt, DeadLetter, Job
from tests.support.factories import AttemptFactory, DeadLetterFactory, JobFactory, QueueFactory, WorkerFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", JobState.values)
def test_a_job_is_consistent_with_its_state(state: str) -> None:
    job = Job.objects.get(pk=JobFactory(state=state).pk)
    attempts = list(job.attempts.order_by("number"))
    assert (job.finished_at is not None) == (state in FINAL)
    assert (job.run_after is not None) == (state in TIMED)
    assert [a.number for a in attempts] == list(range(1, job.attempt + 1))
    assert DeadLetter.objects.filter(job=job, replayed_at=None).count() == (state == "failed")
    assert (job.result is not None) == (state == "succeeded")
    times = [job.enqueued_at, job.started_at, job.last_attempted_at, job.finished_at]
    known = [moment for moment in times if moment is not None]
    assert known == sorted(known)
    assert abs(ids.made_at(job.pk) - job.enqueued_at.timestamp()) < 0.01
    if attempts:
        assert attempts[0].started_at == job.started_at and attempts[-1].started_at == job.last_attempted_at
        assert (attempts[-1].state == "succeeded") == (state == "succeeded")
        assert state in ("retrying", "succeeded", "failed")
    elif state in WAITING | FINAL:
        assert job.started_at is None and job.worker_id is None


def test_ids_sort_in_the_order_of_making() -> None:
    made = [job.pk for job in JobFactory.create_batch(20)]
    assert made == sorted(made)


def test_what_is_given_is_kept() -> None:
    job = JobFactory(state="failed", max_attempts=5, attempt=3, queue="mail", task="x.y")
    letter = DeadLetter.objects.get(job=job)
    assert (letter.attempts, letter.queue, letter.task) == (3, "mail", "x.y")
    assert Attempt.objects.filter(job=job).count() == 3
    assert not Attempt.objects.filter(job=JobFactory(state="failed", history=False)).exists()


def test_the_others_stand_alone() -> None:
    assert AttemptFactory().job.state == "retrying"
    assert DeadLetterFactory().job.state == "failed"
    assert QueueFactory(name="a").pk == QueueFactory(name="a").pk
    for status in ("alive", "silent", "stuck", "stopped"):
        assert WorkerFactory(status=status).status == status
