"""The database itself refuses impossible rows, whoever writes them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from queue_app import clock
from queue_app.domain.states import FINAL, TIMED, JobState
from queue_app.models import Attempt, DeadLetter, Job

pytestmark = pytest.mark.django_db

NOW = clock.now()


def possible(state: str) -> dict[str, Any]:
    """The least that a row of this state must have."""
    return {
        "state": state,
        "finished_at": NOW if state in FINAL else None,
        "run_after": NOW if state in TIMED else None,
        "started_at": NOW if state in (JobState.RUNNING, JobState.SUCCEEDED) else None,
    }


def refused(**values: Any) -> str:
    """The name of the constraint that refuses this row."""
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        Job.objects.create(**values)
    names = [c.name for c in Job._meta.constraints if c.name in str(caught.value)]
    assert len(names) == 1, str(caught.value)
    return names[0]


@pytest.mark.parametrize("state", sorted(JobState))
def test_every_state_is_possible(state: str) -> None:
    Job.objects.create(**possible(state))


@pytest.mark.parametrize("state", sorted(JobState))
def test_finished_at_goes_with_the_final_states_alone(state: str) -> None:
    row = possible(state)
    row["finished_at"] = None if row["finished_at"] else NOW
    assert refused(**row) == "queue_app_job_finished_at"


@pytest.mark.parametrize("state", sorted(TIMED))
def test_what_waits_for_a_time_has_one(state: str) -> None:
    assert refused(**possible(state) | {"run_after": None}) == "queue_app_job_run_after"


@pytest.mark.parametrize("state", ["running", "succeeded"])
def test_what_ran_has_started(state: str) -> None:
    assert refused(**possible(state) | {"started_at": None}) == "queue_app_job_started_at"


@pytest.mark.parametrize("state", ["done", "", "QUEUED"])
def test_only_the_known_states(state: str) -> None:
    with pytest.raises(IntegrityError, match=r"queue_app_job_(state|finished_at)"), transaction.atomic():
        Job.objects.create(state=state)


@pytest.mark.parametrize("priority", [-101, 101])
def test_priorities_have_bounds(priority: int) -> None:
    assert refused(priority=priority) == "queue_app_job_priority"


def test_an_update_is_checked_too() -> None:
    job = Job.objects.create()
    with pytest.raises(IntegrityError, match="queue_app_job_finished_at"), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(state="cancelled")


def attempt(job_id: uuid.UUID, number: int) -> Attempt:
    return Attempt.objects.create(job_id=job_id, number=number, state="failed", finished_at=NOW)


def test_an_attempt_is_written_once() -> None:
    job = Job.objects.create()
    attempt(job.pk, 1)
    attempt(job.pk, 2)
    with pytest.raises(IntegrityError), transaction.atomic():
        attempt(job.pk, 2)


def test_attempts_are_numbered_from_one() -> None:
    with pytest.raises(IntegrityError, match="queue_app_attempt_number"), transaction.atomic():
        attempt(Job.objects.create().pk, 0)


def letter(job: Job, **values: Any) -> DeadLetter:
    return DeadLetter.objects.create(job=job, task="t", queue="q", reason="exhausted", attempts=1, **values)


def test_a_job_has_one_open_dead_letter() -> None:
    job = Job.objects.create(**possible("failed"))
    letter(job, replayed_at=NOW)
    letter(job, replayed_at=NOW)
    letter(job)
    with pytest.raises(IntegrityError), transaction.atomic():
        letter(job)


def test_history_has_no_foreign_key_in_the_database() -> None:
    """Pruning must not touch millions of rows, and a look-up for each row would slow the settle."""
    with connection.cursor() as cursor:
        for model in (Attempt, DeadLetter):
            found = connection.introspection.get_constraints(cursor, model._meta.db_table)
            assert not [name for name, c in found.items() if c["foreign_key"]], model


def test_finished_rows_are_in_no_index_of_what_waits() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'queue_app_job'"
            if connection.vendor == "postgresql"
            else "SELECT sql FROM sqlite_master WHERE tbl_name = 'queue_app_job' AND type = 'index' AND sql != ''"
        )
        names = ("queue_app_job_waiting", "queue_app_job_timed", "queue_app_job_cancelling")
        found = [row[0] for row in cursor.fetchall() if any(name in row[0] for name in names)]
    assert len(found) == 3
    for definition in found:
        assert " WHERE " in definition
        assert not [state for state in FINAL if f"'{state}'" in definition]
