"""Retention: what is over leaves, oldest first, with its attempts; what is not stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from queue_app import clock
from queue_app.dispatch import connection
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.exceptions import LeadershipLost
from queue_app.lifecycle import callbacks, prune
from queue_app.maintenance import leader_term
from queue_app.maintenance.leader_term import LeaderTerm
from queue_app.maintenance.prune_record import MAX_EMPTY_PARTS, PruneRecord
from queue_app.models import Attempt, DeadLetter, Job, Queue, Worker
from tests.support.factories import JobFactory, WorkerFactory
from tests.support.jobs import term_of

pytestmark = pytest.mark.django_db

DAY = 86_400.0


def prune_first(limit: int = prune.ROWS_PER_TRANSACTION) -> int:
    """Walk on until something was deleted, or the end is reached; how many jobs that were."""
    count, behind = prune.prune_jobs_part(limit=limit)
    while count == 0 and behind is not None:
        count, behind = prune.prune_jobs_part(behind, limit=limit)
    return count


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
    assert prune_first() == len(gone)
    assert left() == {job.pk for job in stay}
    assert not Attempt.objects.filter(job_id__in=[job.pk for job in gone]).exists()
    assert not DeadLetter.objects.filter(job_id__in=[job.pk for job in gone]).exists()
    assert Attempt.objects.filter(job_id=stay[1].pk).exists()
    assert DeadLetter.objects.filter(job_id=stay[1].pk).exists()
    assert prune_first() == 0


def test_a_queue_may_keep_longer_or_shorter() -> None:
    Queue.objects.create(name="audit", keep_succeeded=365 * DAY)
    Queue.objects.create(name="noise", keep_succeeded=0)
    kept, gone = made(JobState.SUCCEEDED, 100, "audit"), made(JobState.SUCCEEDED, 0.01, "noise")
    other = made(JobState.SUCCEEDED, 1)
    assert prune_first() == 1
    assert left() == {kept.pk, other.pk}
    assert gone.pk not in left()


@override_settings(QUEUE_APP={"KEEP_SUCCEEDED": None, "KEEP_FAILED": None})
def test_none_keeps_for_ever() -> None:
    made(JobState.SUCCEEDED, 5_000)
    made(JobState.FAILED, 5_000)
    assert prune_first() == 0


def test_the_oldest_go_first_and_a_call_is_bounded() -> None:
    jobs = [made(JobState.SUCCEEDED, days) for days in (30, 10, 20)]
    assert prune_first(limit=2) == 2
    assert left() == {jobs[1].pk}


def test_workers_are_not_touched() -> None:
    worker = WorkerFactory()
    job = made(JobState.SUCCEEDED, 30)
    Job.objects.filter(pk=job.pk).update(worker_id=worker.pk)
    assert prune_first() == 1
    assert Worker.objects.filter(pk=worker.pk).exists()


def test_workers_that_stopped_long_ago_are_forgotten_and_nothing_else_is_read() -> None:
    long_ago = clock.now() - timedelta(days=91)
    old = WorkerFactory.create_batch(3, status="stopped")
    Worker.objects.update(stopped_at=long_ago)
    kept = [WorkerFactory(status=status).pk for status in ("stopped", "alive", "silent")]
    with CaptureQueriesContext(database) as queries:
        assert prune.prune_workers(limit=2) == 2
        assert prune.prune_workers(limit=2) == 1
        assert prune.prune_workers(limit=2) == 0
    assert set(Worker.objects.values_list("pk", flat=True)) == set(kept), [worker.pk for worker in old]
    assert not [query for query in queries.captured_queries if "queue_app_job" in query["sql"]]


@override_settings(
    QUEUE_APP={
        "KEEP_TASKS": {
            "tests.app.tasks.echo": {"succeeded": 365 * DAY},
            "tests.app.tasks.noop": {"succeeded": 60.0, "failed": None},
        }
    }
)
def test_a_task_may_keep_longer_or_shorter_whatever_its_queue() -> None:
    Queue.objects.create(name="noise", keep_succeeded=0, keep_failed=0)
    kept = made(JobState.SUCCEEDED, 100, "noise"), made(JobState.FAILED, 80)
    gone = made(JobState.FAILED, 1, "noise"), made(JobState.SUCCEEDED, 1)
    Job.objects.filter(pk=gone[1].pk).update(task="tests.app.tasks.noop")
    for_ever = made(JobState.FAILED, 5_000, "noise")
    Job.objects.filter(pk=for_ever.pk).update(task="tests.app.tasks.noop")
    assert prune_first() == 2
    assert left() == {kept[0].pk, kept[1].pk, for_ever.pk}


def test_thousands_of_queues_may_have_a_time_of_their_own() -> None:
    """The condition does not grow with them, and each has its own time to the second."""
    Queue.objects.bulk_create(
        Queue(name=f"q{n}", keep_succeeded=n * DAY, keep_failed=(n + 0.5) * DAY if n % 2 else None)
        for n in range(1, 2_001)
    )
    gone, stay = set(), set()
    for n in (1, 7, 8, 1_000, 1_999):
        gone.add(made(JobState.SUCCEEDED, n + 0.001, f"q{n}").pk)
        stay.add(made(JobState.SUCCEEDED, n - 0.001, f"q{n}").pk)
        keep = n + 0.5 if n % 2 else 90
        gone.add(made(JobState.FAILED, keep + 0.001, f"q{n}").pk)
        stay.add(made(JobState.FAILED, keep - 0.001, f"q{n}").pk)
    with CaptureQueriesContext(database) as queries:
        assert prune_first() == len(gone)
    assert left() == stay
    assert max(len(query["sql"]) for query in queries.captured_queries) < 4_000


def term() -> LeaderTerm:
    client = connection.client()
    return term_of(client, "a")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Batches and parts of a few rows."""
    monkeypatch.setattr(prune.prune_jobs_part, "__kwdefaults__", {"limit": 3, "check": callbacks.no_check})
    monkeypatch.setattr(prune, "ROWS_PER_STEP", 4)
    return monkeypatch


def test_one_run_takes_as_many_batches_as_there_are(small: pytest.MonkeyPatch) -> None:
    for n in range(17):
        made(JobState.SUCCEEDED, 30 + n)
    stays = made(JobState.SUCCEEDED, 1)
    one = term()
    assert PruneRecord().run(one) == 17
    assert left() == {stays.pk} and not one.unfinished


def test_a_run_whose_time_is_up_is_due_again_at_once(small: pytest.MonkeyPatch) -> None:
    small.setattr(leader_term, "MAX_RUN_SECONDS", 0.0)
    jobs = [made(JobState.SUCCEEDED, 100 - n) for n in range(8)]
    one, walk = term(), PruneRecord()
    assert walk.run(one) == 3 and one.unfinished
    assert left() == {job.pk for job in jobs[3:]}, "the oldest went first"
    assert walk.run(one) == 3
    one.begin_run()
    assert walk.run(one) == 2 and not one.unfinished


def test_what_is_kept_for_long_is_in_nobodys_way(
    small: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    """Each run goes on where the last one ended, and its cost is bounded."""
    Queue.objects.create(name="audit", keep_succeeded=5_000 * DAY)
    for n in range(50):
        made(JobState.SUCCEEDED, 200 - n, "audit")
    over = made(JobState.SUCCEEDED, 20)
    one, walk, runs = term(), PruneRecord(), 0
    while over.pk in left():
        runs += 1
        with django_assert_max_num_queries(3 * MAX_EMPTY_PARTS + 8):
            walk.run(one)
    assert runs == 3, "5 parts of 4 rows each"
    assert Job.objects.count() == 50


def test_a_deposed_leader_deletes_no_further_batch(small: pytest.MonkeyPatch) -> None:
    for n in range(9):
        made(JobState.SUCCEEDED, 30 + n)
    one, check = term(), []

    def once(self: LeaderTerm) -> None:
        check.append(1)
        if len(check) > 1:
            raise LeadershipLost

    small.setattr(LeaderTerm, "check", once)
    with pytest.raises(LeadershipLost):
        PruneRecord().run(one)
    assert Job.objects.count() == 6
