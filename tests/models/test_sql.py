"""The bulk writes of every vendor against a model of what they must do: same endings, same rows."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from queue_app import clock
from queue_app.domain import ids
from queue_app.domain.ending import Ending
from queue_app.domain.envelope import LANE
from queue_app.domain.states import FINAL
from queue_app.models import Attempt, DeadLetter, Job, sql
from queue_app.models.sql import generic
from queue_app.models.sql.rows import NewJobs, Start
from tests.support.jobs import OTHER_WORKER, WORKER
from tests.support.sql_model import (
    ATTEMPTED,
    at,
    counted,
    endings,
    examples,
    expected_attempt,
    expected_job,
    expected_letter,
    forgotten,
    json_texts,
    overruled,
    rows,
    texts,
    times,
    values,
    vendors,
)

pytestmark = pytest.mark.django_db


# endings


@examples
@given(st.data())
def test_same_endings_same_rows(data: st.DataObject) -> None:
    jobs = data.draw(st.lists(rows(), min_size=1, max_size=6))
    group = [data.draw(endings(job)) for job in jobs]
    pairs = [(job, e) for job, e in zip(jobs, group, strict=True) if counted(job, e)]
    for vendor in vendors():
        with forgotten():
            Job.objects.bulk_create(jobs)
            accepted = vendor.end_attempts(connection, list(group), WORKER)
            assert accepted == {e.id for _, e in pairs}
            ended = {e.id for job, e in pairs if overruled(job, e)}
            assert accepted.cancelled == ended | {e.id for _, e in pairs if e.job_state == "cancelled"}
            assert {j.pk: values(j) for j in Job.objects.all()} == {
                job.pk: expected_job(job, e) for job, e in zip(jobs, group, strict=True)
            }
            assert by_job(Attempt) == {UUID(e.id): expected_attempt(e) for _, e in pairs}
            assert by_job(DeadLetter) == {
                UUID(e.id): expected_letter(e) for job, e in pairs if e.dead_reason and not overruled(job, e)
            }


def by_job(model: Any) -> dict[UUID, dict[str, Any]]:
    found = {row.job_id: values(row) for row in model.objects.all()}
    assert len(found) == model.objects.count()
    return found


def ending(job: Job, number: int, state: str = "succeeded", **more: Any) -> Ending:
    return Ending(str(job.pk), job.task, job.queue, number, state, state, 1.7e9, 1.7e9 + 1, 0, 0, **more)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_row_never_changes(state: str) -> None:
    for vendor in vendors():
        with forgotten():
            job = Job.objects.create(state=state, attempt=1, finished_at=clock.now(), started_at=clock.now())
            before = values(Job.objects.get())
            for number in (1, 2, 3):
                assert vendor.end_attempts(connection, [ending(job, number)], WORKER) == set()
            assert values(Job.objects.get()) == before
            assert not Attempt.objects.exists()


def test_only_one_of_two_deliveries_counts() -> None:
    for vendor in vendors():
        with forgotten():
            job = Job.objects.create()
            first = vendor.end_attempts(
                connection, [ending(job, 1, "failed", dead_reason="exhausted")], WORKER
            )
            second = vendor.end_attempts(connection, [ending(job, 1)], OTHER_WORKER)
            assert (first, second) == ({str(job.pk)}, set())
            assert Job.objects.get().state == "failed"
            assert Attempt.objects.get().worker_id == UUID(WORKER)
            assert DeadLetter.objects.count() == 1


def test_a_group_larger_than_any_chunk() -> None:
    for vendor in vendors():
        with forgotten():
            jobs = Job.objects.bulk_create(
                [Job(attempt=n % 2) for n in range(2 * generic.ROWS_PER_STATEMENT + 7)]
            )
            group = [ending(job, 1, result=f'"{job.pk}"') for job in jobs]
            expected = {str(job.pk) for job in jobs if job.attempt == 0}
            assert vendor.end_attempts(connection, group, WORKER) == expected
            done = Job.objects.filter(state="succeeded")
            assert {str(job.pk) for job in done} == expected
            assert all(job.return_value == str(job.pk) for job in done)
            assert Attempt.objects.count() == len(expected)


def test_rows_that_have_gone_are_no_error() -> None:
    for vendor in vendors():
        with forgotten():
            job, gone = Job.objects.create(), Job(id=ids.new_id())
            group = [ending(gone, 1), ending(job, 1)]
            assert vendor.end_attempts(connection, group, WORKER) == {str(job.pk)}
            assert Attempt.objects.count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0},  # refused by the attempt's constraint, on PostgreSQL in the midst of a COPY
        {"started_at": None},  # by the job's: succeeded without having started
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_the_database_refuses_is_djangos_error_and_leaves_nothing(wrong: dict[str, Any]) -> None:
    for vendor in vendors():
        with forgotten():
            jobs = [Job.objects.create(attempt=wrong.get("number", 1) - 1), Job.objects.create()]
            group = [ending(job, job.attempt + 1) for job in jobs]
            for name, value in wrong.items():
                setattr(group[0], name, value)
            with pytest.raises(DatabaseError), transaction.atomic():
                vendor.end_attempts(connection, group, WORKER)
            assert set(Job.objects.values_list("state", flat=True)) == {"queued"}
            assert not Attempt.objects.exists()


def test_nothing_to_end() -> None:
    for vendor in vendors():
        assert vendor.end_attempts(connection, [], WORKER) == set()


# new rows


@st.composite
def new_jobs(draw: st.DrawFn) -> NewJobs:
    payloads = draw(st.lists(texts, min_size=1, max_size=5))
    return NewJobs(
        task=draw(texts),
        queue=draw(st.sampled_from(["default", "a.b-c_1"])),
        priority=draw(st.integers(-100, 100)),
        state="scheduled",
        backend=draw(texts),
        run_after=clock.from_seconds(draw(times)),
        max_attempts=draw(st.integers(1, 1_000)),
        timeout=draw(st.one_of(st.none(), st.floats(0.01, 1e9))),
        enqueued_at=clock.from_seconds(draw(times)),
        ids=[ids.new_text() for _ in payloads],
        payloads=[json.dumps([[t], {t: t}], ensure_ascii=False) for t in payloads],
        lane=draw(st.sampled_from([LANE, "tenant 7", "a\\b\tc"])),
        meta=draw(json_texts),
    )


@examples
@given(new_jobs())
def test_same_jobs_same_rows(jobs: NewJobs) -> None:
    shared = (
        "task",
        "queue",
        "priority",
        "state",
        "backend",
        "run_after",
        "max_attempts",
        "timeout",
        "enqueued_at",
        "lane",
        "meta",
    )
    expected = {name: getattr(jobs, name) for name in shared}
    expected |= {"attempt": 0, "failures": 0, "deaths": 0, "suspect": False}
    nothing = (
        "started_at",
        "last_attempted_at",
        "finished_at",
        "cancel_requested_at",
        "result",
        "progress",
        "worker_id",
    )
    expected |= dict.fromkeys(nothing)
    for vendor in vendors():
        with forgotten():
            vendor.insert_jobs(connection, jobs)
            found = {str(row.pk): values(row) for row in Job.objects.all()}
        assert found == {
            job_id: expected | {"id": UUID(job_id), "payload": payload}
            for job_id, payload in zip(jobs.ids, jobs.payloads, strict=True)
        }


def test_a_process_of_the_release_before_inserts_without_lane_and_meta() -> None:
    job = Job.objects.create(id=ids.new_id())
    names = [f.column for f in Job._meta.concrete_fields if f.column not in ("lane", "meta")]
    columns = ", ".join(names)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM queue_app_job")  # noqa: S608 - columns
        row = cursor.fetchone()
        Job.objects.all().delete()
        places = ", ".join(["%s"] * len(names))
        cursor.execute(f"INSERT INTO queue_app_job ({columns}) VALUES ({places})", row)  # noqa: S608 - columns
    assert Job.objects.values_list("id", "lane", "meta").get() == (job.pk, LANE, None)


# rows that say running


@examples
@given(st.data())
def test_same_starts_same_rows(data: st.DataObject) -> None:
    jobs = data.draw(st.lists(rows(), min_size=1, max_size=5))
    starts = [
        Start(
            str(job.pk),
            job.attempt + data.draw(st.sampled_from([1, 1, 0, 2])),
            data.draw(times),
            data.draw(json_texts),
        )
        for job in jobs
    ]
    for vendor in vendors():
        with forgotten():
            Job.objects.bulk_create(jobs)
            vendor.mark_running(connection, list(starts), WORKER)
            found = {row.pk: values(row) for row in Job.objects.all()}
        for job, start in zip(jobs, starts, strict=True):
            expected = values(job)
            if job.state in ATTEMPTED and start.number == job.attempt + 1:
                expected |= {
                    "state": "running",
                    "worker_id": UUID(WORKER),
                    "last_attempted_at": at(start.started_at),
                    "started_at": job.started_at or at(start.started_at),
                    "progress": start.progress or job.progress,
                }
            assert found[job.pk] == expected


def test_each_vendor_gets_its_module() -> None:
    assert sql.for_vendor(connection) is vendors()[-1]
