"""Time limits: the soft one interrupts the task, the hard one ends its process, and nobody else pays for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queue_app.models import Attempt, DeadLetter, Job
from tests import tasks
from tests.acceptance.support import StartWorker, attempts, lines, the_one, wait_for_end, wait_for_lines
from tests.support.marks import committed

pytestmark = committed

#: Seconds between the soft and the hard limit.
QUICK = {"HARD_TIMEOUT_GRACE": 0.3}


@pytest.mark.parametrize("slots", ["1", "2"])
def test_the_soft_limit_interrupts_the_task_which_may_clean_up(
    worker: StartWorker, tmp_path: Path, slots: str
) -> None:
    process = worker("--slots", slots)
    child = the_one(process)
    job_id = tasks.sleep_long.enqueue(str(tmp_path), "cleaned up").id
    assert wait_for_end([job_id]) == ["failed"]
    attempt = Attempt.objects.get(job_id=job_id)
    assert (attempt.state, attempt.error_class) == ("timed_out", "queue_app.exceptions.SoftTimeout")
    ran = (attempt.finished_at - attempt.started_at).total_seconds()  # type: ignore[operator]
    assert 0.2 <= ran < 3
    assert len(lines(tmp_path, "cleaned up")) == 1
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert the_one(process) == child


@pytest.mark.parametrize("slots", ["1", "2"])
@pytest.mark.parametrize("task", [tasks.loop_forever, tasks.hold_the_lock], ids=lambda task: task.name)
def test_the_hard_limit_ends_what_will_not_end(
    worker: StartWorker, tmp_path: Path, task: Any, slots: str
) -> None:
    process = worker("--slots", slots, settings=QUICK)
    child = the_one(process)
    job_id = task.using(timeout=0.2).enqueue(str(tmp_path), "ran").id
    assert wait_for_end([job_id]) == ["succeeded"]
    assert attempts(job_id) == ["timed_out", "succeeded"]
    first = Attempt.objects.get(job_id=job_id, number=1)
    assert first.error_class == "queue_app.exceptions.HardTimeout"
    assert first.error.startswith("Killed after ") and first.error.endswith(" s, its hard time limit.")
    assert 0.5 <= (first.finished_at - first.started_at).total_seconds() < 5  # type: ignore[operator]
    job = Job.objects.get(pk=job_id)
    assert (job.failures, job.deaths) == (1, 0), "a time limit is a failure, not a death"
    assert {int(line[0]) == child for line in lines(tmp_path, "ran")} == {True, False}


def test_a_hard_limit_uses_up_the_attempts(worker: StartWorker, tmp_path: Path) -> None:
    worker(settings=QUICK)
    job_id = tasks.hold_the_lock.using(timeout=0.1, max_attempts=1).enqueue(str(tmp_path), "ran").id
    assert wait_for_end([job_id]) == ["failed"]
    letter = DeadLetter.objects.get(job_id=job_id)
    assert (letter.reason, letter.error_class) == ("exhausted", "queue_app.exceptions.HardTimeout")


def test_the_neighbour_of_a_killed_job_runs_again_without_blame(worker: StartWorker, tmp_path: Path) -> None:
    worker("--slots", "2", settings=QUICK)
    neighbour = tasks.wait_for_file.enqueue(str(tmp_path), "neighbour", "release").id
    wait_for_lines(tmp_path, "neighbour")
    stuck = tasks.hold_the_lock.using(timeout=0.2).enqueue(str(tmp_path), "stuck").id
    wait_for_lines(tmp_path, "neighbour", 2)
    (tmp_path / "release").touch()
    assert wait_for_end([stuck, neighbour]) == ["succeeded"] * 2
    assert attempts(neighbour) == ["lost", "succeeded"]
    job = Job.objects.get(pk=neighbour)
    assert (job.deaths, job.failures) == (0, 0)


@pytest.mark.parametrize("slots", ["1", "2"])
def test_an_async_task_is_cancelled_at_its_limit(worker: StartWorker, slots: str) -> None:
    process = worker("--slots", slots)
    child = the_one(process)
    job_id = tasks.async_add.using(timeout=0.2, max_attempts=1).enqueue(1, 2, 60).id
    assert wait_for_end([job_id]) == ["failed"]
    assert attempts(job_id) == ["timed_out"]
    assert wait_for_end([tasks.async_add.using(timeout=30).enqueue(1, 2).id]) == ["succeeded"]
    assert the_one(process) == child


def test_who_is_in_time_is_left_alone(worker: StartWorker, tmp_path: Path) -> None:
    worker(settings=QUICK | {"TIMEOUT": 0.4})
    ids = [tasks.label.enqueue(str(tmp_path), "ran", n, 0.15).id for n in range(6)]
    assert wait_for_end(ids) == ["succeeded"] * 6
    assert len(lines(tmp_path, "ran")) == 6
