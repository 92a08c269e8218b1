"""The bulk writes of every vendor against a model of what they must do: same endings, same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from queue_app import clock
from queue_app.domain import ids
from queue_app.domain.envelope import LANE
from queue_app.domain.outcome import Ending
from queue_app.domain.states import FINAL, TIMED, UNFINISHED, JobState
from queue_app.models import Attempt, DeadLetter, Job, sql
from queue_app.models.sql import generic, postgresql
from queue_app.models.sql.rows import NewJobs, Start
from tests.support.jobs import OTHER_WORKER, WORKER

pytestmark = pytest.mark.django_db

examples = hypothesis_settings(
    max_examples=60,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.generate,
        Phase.shrink,
    ],  # explaining takes minutes where each example asks a database
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

#: Whatever may be in a message or a value: every character that one of the formats gives a meaning to.
texts = st.text(
    st.one_of(
        st.sampled_from("\\\t\n\r\v\f\b\"'{},%sN. \x01\x7f\u2028é😀"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"),
    ),
    max_size=30,
)
times = st.floats(1.6e9, 1.9e9).map(lambda seconds: round(seconds, 6))
json_texts = st.one_of(st.none(), texts.map(lambda t: json.dumps({t: [t]}, ensure_ascii=False)))
counts = st.integers(0, 30_000)


def vendors() -> list[ModuleType]:
    """What may write on this leg's database: the ORM anywhere, and the vendor's own module."""
    return [generic, postgresql] if connection.vendor == "postgresql" else [generic]


@contextmanager
def forgotten() -> Iterator[None]:
    """What is written in the block is rolled back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else clock.from_seconds(seconds)


@st.composite
def rows(draw: st.DrawFn) -> Job:
    """A job as it may be found in the table."""
    state = draw(st.sampled_from(sorted(JobState)))
    started = draw(st.one_of(st.none(), times)) if state not in ("running", "succeeded") else draw(times)
    began = at(started)
    return Job(
        id=ids.new_id(),
        task=draw(texts),
        queue="default",
        state=state,
        attempt=draw(st.integers(0, 3)),
        failures=draw(counts),
        deaths=draw(counts),
        started_at=began,
        last_attempted_at=began,
        finished_at=clock.from_seconds(draw(times)) if state in FINAL else None,
        run_after=clock.from_seconds(draw(times)) if state in TIMED or draw(st.booleans()) else None,
        cancel_requested_at=at(draw(st.one_of(st.none(), times))),
        progress=draw(json_texts),
        suspect=draw(st.booleans()),
        worker_id=draw(st.sampled_from([None, UUID(OTHER_WORKER)])),
    )


@st.composite
def endings(draw: st.DrawFn, job: Job) -> Ending:
    """An outcome of this job, mostly of the attempt that it expects."""
    kind = draw(
        st.sampled_from(
            ["succeeded", "retried", "dead", "poison", "snoozed", "lost", "timed_out", "cancelled"]
        )
    )
    number = job.attempt + draw(st.sampled_from([1, 1, 1, 0, 2, -1]))
    job_state, attempt_state, reason = {
        "succeeded": ("succeeded", "succeeded", ""),
        "retried": ("retrying", "failed", ""),
        "dead": ("failed", "failed", "exhausted"),
        "poison": ("failed", "lost", "poison"),
        "snoozed": ("scheduled", "snoozed", ""),
        "lost": ("queued", "lost", ""),
        "timed_out": ("retrying", "timed_out", ""),
        "cancelled": ("cancelled", "cancelled", ""),
    }[kind]
    good = kind == "succeeded"
    wrong = not good and draw(st.booleans())
    return Ending(
        id=str(job.pk),
        task=job.task,
        queue=job.queue,
        number=number,
        job_state=job_state,
        attempt_state=attempt_state,
        started_at=draw(times if good else st.one_of(st.none(), times)),
        finished_at=draw(times),
        failures=job.failures if good else draw(counts),
        deaths=job.deaths if good else draw(counts),
        run_after=draw(times) if job_state in TIMED else None,
        result=draw(json_texts) if good else None,
        progress=draw(json_texts),
        error_class=draw(texts) if wrong else "",
        error=draw(texts.filter(bool)) if wrong else "",
        traceback=draw(texts) if wrong else "",
        dead_reason=reason,
        fingerprint="0123456789ab" if reason else "",
        suspect=not good and draw(st.booleans()),
    )


#: States from which an attempt may end, or be under way: all that are not final, but for what waits for other jobs.
ATTEMPTED = UNFINISHED - {JobState.BLOCKED}


def counted(job: Job, e: Ending) -> bool:
    """The fence: an outcome counts only if the row still waits for this attempt."""
    return job.state in ATTEMPTED and e.number == job.attempt + 1


def overruled(job: Job, e: Ending) -> bool:
    """The job was to be cancelled and did not succeed: it is cancelled, whatever else would have come of it."""
    return job.cancel_requested_at is not None and e.job_state != "succeeded"


def expected_job(job: Job, e: Ending) -> dict[str, Any]:
    """The row that an ending must leave behind."""
    row = values(job)
    if not counted(job, e):
        return row
    cancelled = overruled(job, e)
    return row | {
        "state": "cancelled" if cancelled else e.job_state,
        "attempt": e.number,
        "failures": e.failures,
        "deaths": e.deaths,
        "started_at": row["started_at"] or at(e.started_at),
        "last_attempted_at": at(e.started_at) or row["last_attempted_at"],
        "finished_at": at(e.finished_at) if cancelled or e.job_state in FINAL else None,
        "run_after": row["run_after"] if cancelled else at(e.run_after) or row["run_after"],
        "result": e.result,
        "progress": e.progress or row["progress"],
        "suspect": e.suspect,
        "worker_id": UUID(WORKER),
    }


def expected_attempt(e: Ending) -> dict[str, Any]:
    return {
        "job_id": UUID(e.id),
        "number": e.number,
        "state": e.attempt_state,
        "worker_id": UUID(WORKER),
        "started_at": at(e.started_at),
        "finished_at": at(e.finished_at),
        "error_class": e.error_class,
        "error": e.error,
        "traceback": e.traceback,
    }


def expected_letter(e: Ending) -> dict[str, Any]:
    return {
        "job_id": UUID(e.id),
        "task": e.task,
        "queue": e.queue,
        "reason": e.dead_reason,
        "attempts": e.number,
        "error_class": e.error_class,
        "error": e.error,
        "fingerprint": e.fingerprint,
        "created_at": at(e.finished_at),
        "replayed_at": None,
    }


def values(row: Any) -> dict[str, Any]:
    """A row as a dict, without ids that the database or a clock gave."""
    found = {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields}
    if not isinstance(row, Job):
        del found["id"]
    return found


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
