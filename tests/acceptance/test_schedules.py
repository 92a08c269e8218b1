"""Schedules of real workers: each run on time and once, also when the leader is killed before and after it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from bench.runtime.waiting import wait_until
from queue_app import clock
from queue_app.models import DeadLetter, Job, Schedule
from tests.acceptance.test_imports import HANG
from tests.acceptance.test_imports import start as start_with_module
from tests.support.factories import ScheduleFactory
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, kill, lines, the_one, wait_for_lines

pytestmark = [committed, on_postgresql_alone]


def due_in(seconds: float, folder: Path, name: str) -> Schedule:
    """A schedule that runs that soon, and then once a year."""
    schedule = ScheduleFactory(
        name=name,
        task="tests.app.tasks.note",
        cron="@yearly",
        arguments=json.dumps([[str(folder), name], {}]),
    )
    Schedule.objects.filter(pk=schedule.pk).update(next_at=clock.now() + timedelta(seconds=seconds))
    schedule.refresh_from_db()
    return schedule


def test_runs_on_time_whoever_leads(worker: StartWorker, tmp_path: Path) -> None:
    late = due_in(-1, tmp_path, "late")
    one = worker("--processes", "1", settings={"LEASE": 2.0})
    wait_for_lines(tmp_path, "late")
    kill(the_one(one, "keeper"))
    soon = due_in(3, tmp_path, "soon")
    wait_for_lines(tmp_path, "soon")
    jobs = [
        wait_until(
            lambda name=name: Job.objects.filter(payload__contains=name, state="succeeded").first(), 60, name
        )
        for name in ("late", "soon")
    ]
    assert jobs[0].run_after is None
    assert jobs[1].started_at is not None and jobs[1].started_at >= (soon.next_at or clock.now())
    assert Job.objects.count() == 2
    for schedule, job in zip((late, soon), jobs, strict=True):
        found = Schedule.objects.get(pk=schedule.pk)
        assert (found.last_job_id, found.last_at) == (job.pk, schedule.next_at)


@pytest.mark.parametrize("what", ["os._exit(0)", HANG], ids=["ends", "hangs"])
def test_a_module_that_ends_or_holds_up_who_imports_it_does_so_to_no_leader(
    worker: StartWorker, tmp_path: Path, what: str
) -> None:
    """The child that runs the job imports its module, and the job is charged with what comes of it (P9)."""
    ScheduleFactory(name="deadly", task="late_module.greet", arguments='[["x"],{}]', cron="@yearly")
    Schedule.objects.update(next_at=clock.now() - timedelta(seconds=1))
    due_in(-1, tmp_path, "late")
    process = start_with_module(worker, tmp_path, what, IMPORT_TIMEOUT=1.0, LEASE=2.0)
    keeper = the_one(process, "keeper")
    wait_for_lines(tmp_path, "late")
    soon = due_in(8, tmp_path, "soon")
    letter = wait_until(DeadLetter.objects.first, 60, "the dead letter")
    assert (letter.task, letter.reason) == ("late_module.greet", "poison")
    assert "while importing late_module" in letter.error
    assert len(lines(tmp_path, "imported")) == 2, "twice by a child, and by nobody else"
    wait_for_lines(tmp_path, "soon")
    job = Job.objects.get(payload__contains="soon")
    assert job.run_after == soon.next_at, "it was enqueued ahead"
    assert the_one(process, "keeper") == keeper
    assert process.stop() == 0
