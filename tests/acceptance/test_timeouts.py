"""Time limits: the soft one interrupts the task, the hard one ends its process, and nobody else pays for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_app.models import Attempt, DeadLetter, Job
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, attempts, lines, the_one, wait_for_end, wait_for_lines

pytestmark = [committed, on_postgresql_alone]

#: Seconds between the soft and the hard limit.
QUICK = {"HARD_TIMEOUT_GRACE": 0.3}


@pytest.mark.parametrize("slots", ["1", "2"])
def test_the_soft_limit_interrupts_the_task_which_may_clean_up(
    worker: StartWorker, tmp_path: Path, slots: str
) -> None:
    process = worker("--slots", slots, settings={"TIMEOUT": 10.0})
    child = the_one(process)
    sync = tasks.sleep_long.enqueue(str(tmp_path), "cleaned up").id
    in_async = tasks.async_add.using(timeout=0.2, max_attempts=1).enqueue(1, 2, 60).id
    in_time = [tasks.label.using(timeout=0.4).enqueue(str(tmp_path), "in time", n, 0.1).id for n in range(4)]
    in_time += [tasks.async_add.using(timeout=30).enqueue(1, 2).id, tasks.noop.enqueue().id]
    assert wait_for_end([sync, in_async, *in_time]) == ["failed"] * 2 + ["succeeded"] * 6
    for job_id in (sync, in_async):
        attempt = Attempt.objects.get(job_id=job_id)
        assert (attempt.state, attempt.error_class) == ("timed_out", "queue_app.exceptions.SoftTimeout")
        assert 0.2 <= (attempt.finished_at - attempt.started_at).total_seconds() < 3  # type: ignore[operator]
    assert len(lines(tmp_path, "cleaned up")) == 1
    assert len(lines(tmp_path, "in time")) == 4
    assert the_one(process) == child, "a soft limit costs no process"


@pytest.mark.parametrize("slots", ["1", "2"])
def test_the_hard_limit_ends_what_will_not_end(worker: StartWorker, tmp_path: Path, slots: str) -> None:
    process = worker("--slots", slots, settings=QUICK)
    for task in (tasks.loop_forever, tasks.hold_the_lock):
        child = the_one(process)
        job_id = task.using(timeout=0.2).enqueue(str(tmp_path), task.name).id
        assert wait_for_end([job_id]) == ["succeeded"]
        assert attempts(job_id) == ["timed_out", "succeeded"]
        first = Attempt.objects.get(job_id=job_id, number=1)
        assert first.error_class == "queue_app.exceptions.HardTimeout"
        assert first.error.startswith("Killed after ") and first.error.endswith(" s, its hard time limit.")
        assert 0.5 <= (first.finished_at - first.started_at).total_seconds() < 5  # type: ignore[operator]
        job = Job.objects.get(pk=job_id)
        assert (job.failures, job.deaths) == (1, 0), "a time limit is a failure, not a death"
        assert [int(line[0]) == child for line in lines(tmp_path, task.name)] == [True, False]

    last = tasks.hold_the_lock.using(timeout=0.1, max_attempts=1).enqueue(str(tmp_path), "last").id
    assert wait_for_end([last]) == ["failed"]
    letter = DeadLetter.objects.get()
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
