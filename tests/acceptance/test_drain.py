"""`runworker --drain`: everything that is due, in order, in one process, then the end."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import redis

from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app.lifecycle import operate
from queue_app.models import Attempt, Job, Worker
from tests.app import tasks
from tests.support.marks import committed, on_sqlite_alone
from tests.support.whole_workers import StartWorker, attempts, labels, lines

pytestmark = [committed, on_sqlite_alone]


def ran(process: WorkerProcess) -> int:
    """How many jobs a drain said that it had run."""
    assert process.wait(60) == 0, process.output()
    found = re.search(r"^drained [\w,]+: (\d+) jobs run$", process.output(), re.MULTILINE)
    assert found, process.output()
    return int(found[1])


def test_it_runs_what_is_due_and_what_that_enqueues(worker: StartWorker, tmp_path: Path) -> None:
    folder = str(tmp_path)
    first = [tasks.label.enqueue(folder, "order", n).id for n in range(3)]
    urgent = tasks.label.using(priority=1).enqueue(folder, "order", "urgent").id
    more = tasks.enqueue_more.enqueue(folder, "more", 4).id
    later = tasks.noop.using(run_after=60).enqueue().id
    other = tasks.noop.using(queue_name="mail").enqueue().id
    failing = tasks.fail.using(max_attempts=2).enqueue().id
    assert ran(worker("--drain", ready=False)) == 3 + 1 + 1 + 4 + 1
    assert labels(tmp_path, "order") == ["urgent", "0", "1", "2"]
    assert len(lines(tmp_path, "more")) == 4
    assert set(Job.objects.filter(pk__in=[*first, urgent, more]).values_list("state", flat=True)) == {
        "succeeded"
    }
    assert Job.objects.get(pk=later).state == "scheduled"
    assert Job.objects.get(pk=other).state == "queued"
    assert Job.objects.get(pk=failing).state == "retrying", "a drain does not wait for retries"
    assert attempts(failing) == ["failed"]


def test_nothing_to_do(worker: StartWorker, clean_redis: redis.Redis) -> None:
    assert ran(worker("--drain", ready=False)) == 0
    assert not list(clean_redis.scan_iter("*:held:*"))


def test_it_finds_jobs_that_redis_never_got(worker: StartWorker, clean_redis: redis.Redis) -> None:
    ids = [result.id for result in tasks.noop.enqueue_many([((), {})] * 5)]
    clean_redis.flushall()
    assert ran(worker("--drain", ready=False)) == 5
    assert Job.objects.filter(pk__in=ids, state="succeeded").count() == 5


def test_two_at_once_share_the_work(worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis) -> None:
    calls = [((str(tmp_path), "ran", n, 0.01), {}) for n in range(200)]
    tasks.label.enqueue_many(calls)
    clean_redis.flushall()  # both will want to put them back
    drains = [worker("--drain", ready=False) for _ in range(2)]
    counts = [ran(process) for process in drains]
    assert sum(counts) == 200
    assert Counter(labels(tmp_path, "ran")) == {str(n): 1 for n in range(200)}
    assert Job.objects.filter(state="succeeded", attempt=1).count() == Attempt.objects.count() == 200


def running(worker: StartWorker, folder: Path) -> tuple[WorkerProcess, str]:
    """A drain in the midst of a job, whose row says so; it ends when the file `go` is there."""
    job_id = tasks.wait_for_file.enqueue(str(folder), "begun", "go").id
    process = worker("--drain", ready=False)
    wait_until(lambda: Job.objects.get(pk=job_id).state == "running", 30, process.output)
    return process, job_id


def test_it_has_a_row_while_it_runs(worker: StartWorker, tmp_path: Path) -> None:
    process, _ = running(worker, tmp_path)
    row = Worker.objects.get()
    assert (row.pid, row.processes, row.slots, row.status) == (process.pid, 1, 1, "alive")
    beat = row.heartbeat_at
    wait_until(lambda: Worker.objects.get().heartbeat_at > beat, 30, "it renews its row")
    (tmp_path / "go").touch()
    assert ran(process) == 1
    assert Worker.objects.get().status == "stopped"


def test_what_it_runs_stays_its_own_when_redis_loses_its_data(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    process, job_id = running(worker, tmp_path)
    other = tasks.noop.enqueue().id
    clean_redis.flushall()
    assert ran(worker("--drain", ready=False)) == 1, "a second one rebuilds, and runs what waits"
    assert Job.objects.get(pk=other).state == "succeeded"
    assert Job.objects.get(pk=job_id).state == "running"
    (tmp_path / "go").touch()
    assert ran(process) == 1
    assert attempts(job_id) == ["succeeded"] and len(lines(tmp_path, "begun")) == 1


def test_a_cancellation_while_redis_has_lost_its_data_knows_that_it_runs(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    process, job_id = running(worker, tmp_path)
    Job.objects.filter(pk=job_id).update(state="queued")  # so young that its row does not say it yet
    clean_redis.flushall()
    assert operate.cancel([job_id]).requested == [job_id]
    (tmp_path / "go").touch()
    process.wait(60)
    assert attempts(job_id) == ["succeeded"]
